//! Causal attention over paged KV.

pub mod cpu;

use std::ops::Range;

use crate::arena::{Arena, KeyOrValue};
use crate::ops::linear::dot;
use crate::ops::store_kv::KvPlace;
use crate::pages::PagesView;
use crate::step::Step;

/// Positions that a token at `position` sees. [`reference`] says it for itself, so that comparisons with it test this.
pub fn seen(position: usize, window: Option<u32>) -> Range<usize> {
    let end = position + 1;
    window.map_or(0, |window| end.saturating_sub(window as usize))..end
}

/// `softmax(scale * q·k) · v` of each token's query heads over its sequence's positions up to and with its own, the last
/// `window` of them if given; with a `soft_cap` c a score s becomes `c * tanh(s / c)`. `out` is `[tokens, num_heads * head_dim]`; query heads share a KV head in runs.
pub fn reference(
    qkv: &[f32],
    place: &KvPlace,
    scale: f32,
    window: Option<u32>,
    soft_cap: Option<f32>,
    step: &Step,
    arena: &Arena,
    kv: &PagesView<'_>,
    out: &mut [f32],
) {
    let dim = place.head_dim;
    let mut weights: Vec<f32> = Vec::new();
    for (t, out) in out.chunks_exact_mut(place.num_heads * dim).enumerate() {
        let row = &qkv[t * place.width()..][..place.width()];
        let table = step.table(place.group, step.row_of_token[t] as usize);
        let end = step.positions[t] as usize + 1;
        let begin = window.map_or(0, |window| end.saturating_sub(window as usize));
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            let kv_head = head / (place.num_heads / place.num_kv_heads);
            let slot = |which, position: usize| {
                let block = table[position / arena.block_size] as usize;
                let tile = arena.tile(place.group, block, place.layer, which, kv_head);
                kv.read::<f32>(tile + position % arena.block_size * dim * size_of::<f32>(), dim)
            };
            let query = &row[head * dim..][..dim];
            weights.clear();
            weights.extend((begin..end).map(|position| {
                let score = scale * dot(query, slot(KeyOrValue::Key, position));
                soft_cap.map_or(score, |cap| cap * (score / cap).tanh())
            }));
            softmax(&mut weights);
            out.fill(0.0);
            for (weight, position) in weights.iter().zip(begin..end) {
                for (out, value) in out.iter_mut().zip(slot(KeyOrValue::Value, position)) {
                    *out += weight * value;
                }
            }
        }
    }
}

/// Scores to weights that sum to 1, in place; the sum is taken in f64.
fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += f64::from(*score);
    }
    for score in scores.iter_mut() {
        *score = (f64::from(*score) / sum) as f32;
    }
}
