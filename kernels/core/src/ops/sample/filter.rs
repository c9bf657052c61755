//! min-p, top-k and top-p without sorting the vocabulary.

use super::vector::{PART, Peaks, exp_into, weight_sums};
use crate::seats::SeatParams;
use std::cmp::Ordering;

/// Tokens that passed, with their weights (the heaviest of the row has weight 1).
pub(super) struct Kept {
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

/// A token that is still in.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    weight: f32,
    logit: f32,
}

/// Most probable first, lower id first among equals. The logit decides: weights of different logits may round together.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Applies the filters at temperature `1 / scale`; `None` when all of them are off.
pub(super) fn keep(logits: &[f32], peaks: &Peaks, params: &SeatParams, scale: f32) -> Option<Kept> {
    let top_k = if params.top_k == 0 { logits.len() } else { (params.top_k as usize).min(logits.len()) };
    let (min_p, top_p) = (params.min_p as f32, params.top_p);
    if top_k == logits.len() && min_p == 0.0 && top_p >= 1.0 {
        return None;
    }
    let mut candidates = if top_k < logits.len() {
        let mut candidates = at_least(logits, peaks, peaks.bound(top_k), scale);
        if candidates.len() > top_k {
            candidates.select_nth_unstable_by(top_k - 1, order);
            candidates.truncate(top_k);
        }
        candidates
    } else if min_p > 0.0 {
        at_least(logits, peaks, bound_of(min_p, peaks, scale), scale)
    } else {
        return Some(whole_nucleus(logits, peaks, top_p, scale).into());
    };
    if min_p > 0.0 {
        candidates.retain(|candidate| candidate.weight >= min_p);
    }
    if top_p < 1.0 {
        let wanted = top_p * weight_of(&candidates);
        nucleus(&mut candidates, wanted);
    }
    Some(candidates.into())
}

impl From<Vec<Candidate>> for Kept {
    fn from(mut candidates: Vec<Candidate>) -> Self {
        // One order for the draw, whatever way the candidates were found.
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        Self {
            ids: candidates.iter().map(|candidate| candidate.id).collect(),
            weights: candidates.iter().map(|candidate| candidate.weight).collect(),
        }
    }
}

fn weight_of(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}

/// A logit that every token of this weight reaches: rounding must not drop what an exact test would keep.
fn bound_of(weight: f32, peaks: &Peaks, scale: f32) -> f32 {
    (f64::from(peaks.max) + (f64::from(weight).ln() - 1e-3) / f64::from(scale)) as f32
}

/// The nucleus of the whole row, sought among the heaviest tokens first.
fn whole_nucleus(logits: &[f32], peaks: &Peaks, top_p: f64, scale: f32) -> Vec<Candidate> {
    let total: f64 = weight_sums(logits, peaks.max, scale).iter().sum();
    // All tokens below this weigh together less than what the nucleus leaves out.
    let floor = ((1.0 - top_p) * total / logits.len() as f64) as f32;
    let mut candidates = Vec::new();
    for weight in [1e-2, 1e-4, floor] {
        candidates = at_least(logits, peaks, bound_of(weight, peaks, scale), scale);
        if weight_of(&candidates) >= top_p * total {
            break;
        }
    }
    nucleus(&mut candidates, top_p * total);
    candidates
}

/// Tokens whose logit is at least `bound`.
fn at_least(logits: &[f32], peaks: &Peaks, bound: f32, scale: f32) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut weights = [0.0; PART];
    for part in peaks.at_least(bound) {
        let row = &logits[part.start..part.end.min(logits.len())];
        exp_into(row, peaks.max, scale, &mut weights[..row.len()]);
        for (id, (&logit, &weight)) in (part.start..).zip(row.iter().zip(&weights)) {
            if logit >= bound {
                candidates.push(Candidate { id: id as u32, weight, logit });
            }
        }
    }
    candidates
}

/// Keeps the fewest candidates, heaviest first, that weigh at least `wanted`; one at least.
fn nucleus(candidates: &mut Vec<Candidate>, wanted: f64) {
    let mut sorted = 0;
    let mut weight = 0.0;
    let mut step = 64;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = step.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, order);
        }
        rest[..take].sort_unstable_by(order);
        for (i, candidate) in rest[..take].iter().enumerate() {
            weight += f64::from(candidate.weight);
            if weight >= wanted {
                candidates.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += take;
        step *= 4;
    }
}
