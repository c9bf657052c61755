//! Keys and values of tokens into their slots, in the order that `ops/attention/cpu/layout.rs` describes.
#![expect(unsafe_code, reason = "runs of slots are written by different threads")]

use std::ops::Range;

use super::KvPlace;
use crate::arena::Arena;
use crate::ops::attention::cpu::layout::{KvDType, MOST_HEAD_DIM, RUN, padded};
use crate::ops::attention::cpu::quantize::{self, key_scale, shorts, times, value_scale};
use crate::pages::PagesView;
use crate::pool::Pool;
use crate::simd::{Isa, Simd, WIDE, with_pairs_simd, with_wide_simd};
use crate::step::Step;

/// Below this many elements one thread does it.
const SERIAL: usize = 8192;

/// Tokens of one sequence inside one run of 16 positions, and where the run lies.
struct Piece {
    tokens: Range<usize>,
    block: usize,
    slot: usize,
}

/// The step's tokens cut where a sequence or a run ends.
fn pieces(place: &KvPlace, step: &Step, arena: &Arena) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (r, row) in step.rows.iter().enumerate() {
        let (mut first, end) = (row.first, row.first + row.len);
        while first < end {
            let position = row.start + first - row.first;
            let next = end.min(first + RUN - position % RUN);
            let block = step.table(place.group, r)[position / arena.block_size] as usize;
            pieces.push(Piece { tokens: first..next, block, slot: position % arena.block_size });
            first = next;
        }
    }
    pieces
}

/// Writes K and V of all tokens; `qkv` is `[tokens, place.width()]`.
pub fn store(
    isa: Isa,
    pool: &mut Pool,
    dtype: KvDType,
    qkv: &[f32],
    place: &KvPlace,
    step: &Step,
    arena: &Arena,
    kv: &mut PagesView<'_>,
) {
    let pieces = pieces(place, step, arena);
    let mut runs: Vec<(usize, usize)> = pieces.iter().map(|p| (p.block, p.slot / RUN)).collect();
    runs.sort_unstable();
    let apart = runs.windows(2).all(|pair| pair[0] != pair[1]);
    let kv = &*kv;
    let store = |index: usize, _: usize| {
        let piece = &pieces[index];
        for head in 0..place.num_kv_heads {
            let at = dtype.run(arena, place, piece.block, head, piece.slot / RUN);
            let len = RUN * (place.head_dim + padded(place.head_dim));
            match dtype {
                KvDType::F16 => {
                    // SAFETY: pieces have different runs, or else follow each other on one thread.
                    let run = unsafe { kv.part(at, len) };
                    with_wide_simd!(isa, s => store_halves(s, qkv, place, piece, head, run));
                }
                KvDType::BF16 => {
                    // SAFETY: as above.
                    let run = unsafe { kv.part(at, len / 2) };
                    with_pairs_simd!(isa, s => store_pairs(s, qkv, place, piece, head, run));
                }
                KvDType::Q16 => {
                    // SAFETY: as above.
                    let run = unsafe { kv.part(at, dtype.parts(place.head_dim).end / size_of::<u32>()) };
                    with_wide_simd!(isa, s => store_shorts(s, qkv, place, piece, head, run));
                }
                KvDType::Q8 => {
                    // SAFETY: as above.
                    let run = unsafe { kv.part(at, dtype.parts(place.head_dim).end / size_of::<u32>()) };
                    with_wide_simd!(isa, s => store_bytes(s, qkv, place, piece, head, run));
                }
            }
        }
    };
    if apart && qkv.len() > SERIAL {
        pool.run(pieces.len(), &store);
    } else {
        (0..pieces.len()).for_each(|index| store(index, 0));
    }
}

/// Key and value of a token.
fn key_and_value<'a>(qkv: &'a [f32], place: &KvPlace, token: usize, head: usize) -> [&'a [f32]; 2] {
    let row = &qkv[token * place.width()..][..place.width()];
    [place.num_heads + head, place.num_heads + place.num_kv_heads + head]
        .map(|head| &row[head * place.head_dim..][..place.head_dim])
}

/// Up to 16 elements and zeros.
#[inline(always)]
fn load<S: Simd<WIDE>>(s: S, from: &[f32]) -> S::V {
    if let Some(from) = from.first_chunk() {
        s.load(from)
    } else {
        let mut some = [0.0; WIDE];
        some[..from.len()].copy_from_slice(from);
        s.load(&some)
    }
}

/// Up to 32 elements in pairs.
#[inline(always)]
fn words_of<S: Simd<WIDE>>(s: S, from: &[f32]) -> [u32; WIDE] {
    let mut words = [0; WIDE];
    let (low, high) = from.split_at(from.len().min(WIDE));
    s.store_pairs(&mut words, load(s, low), load(s, high));
    words
}

/// A run of IEEE halves.
#[inline(always)]
fn store_halves<S: Simd<WIDE>>(
    s: S,
    qkv: &[f32],
    place: &KvPlace,
    piece: &Piece,
    head: usize,
    run: &mut [u16],
) {
    let (keys, values) = run.split_at_mut(RUN * place.head_dim);
    for (token, slot) in piece.tokens.clone().zip(piece.slot % RUN..) {
        let [key, value] = key_and_value(qkv, place, token, head);
        for (from, to) in key.chunks(WIDE).zip(keys.chunks_mut(WIDE * RUN)) {
            let mut halves = [0; WIDE];
            s.store_half(&mut halves, load(s, from));
            for (half, to) in halves.into_iter().zip(to.chunks_exact_mut(RUN)) {
                to[slot] = half;
            }
        }
        let to = &mut values[slot * padded(place.head_dim)..];
        for (from, to) in value.chunks(WIDE).zip(to.as_chunks_mut().0) {
            s.store_half(to, load(s, from));
        }
    }
}

/// A run of bfloat16 in pairs.
#[inline(always)]
fn store_pairs<S: Simd<WIDE>>(
    s: S,
    qkv: &[f32],
    place: &KvPlace,
    piece: &Piece,
    head: usize,
    run: &mut [u32],
) {
    let (keys, values) = run.split_at_mut(RUN * place.head_dim / 2);
    for (token, slot) in piece.tokens.clone().zip(piece.slot % RUN..) {
        let [key, value] = key_and_value(qkv, place, token, head);
        for (from, to) in key.chunks(2 * WIDE).zip(keys.chunks_mut(WIDE * RUN)) {
            for (word, to) in words_of(s, from).into_iter().zip(to.chunks_exact_mut(RUN)) {
                to[slot] = word;
            }
        }
        let to = values_of(values, slot, place.head_dim);
        for (from, to) in value.chunks(2 * WIDE).zip(to.chunks_mut(2 * WIDE)) {
            put_values(&words_of(s, from), slot, to);
        }
    }
}

/// Where the values of a slot go, and those of its neighbour.
fn values_of(values: &mut [u32], slot: usize, head_dim: usize) -> &mut [u32] {
    &mut values[slot / 2 * padded(head_dim)..][..head_dim]
}

/// Writes values, two dims a word, beside those of the neighbouring slot: the other half of each word is its.
#[inline(always)]
fn put_values(words: &[u32], slot: usize, to: &mut [u32]) {
    let shift = slot % 2 * 16;
    for (word, to) in words.iter().zip(to.as_chunks_mut::<2>().0) {
        for (to, bits) in to.iter_mut().zip([word & 0xffff, word >> 16]) {
            *to = (*to & !(0xffff << shift)) | (bits << shift);
        }
    }
}

/// A run of 16-bit integers with scales.
#[inline(always)]
fn store_shorts<S: Simd<WIDE>>(
    s: S,
    qkv: &[f32],
    place: &KvPlace,
    piece: &Piece,
    head: usize,
    run: &mut [u32],
) {
    let dim = place.head_dim;
    let (keys, rest) = run.split_at_mut(RUN * dim / 2);
    let (key_scales, rest) = rest.split_at_mut(RUN);
    let (values, value_scales) = rest.split_at_mut(RUN * padded(dim) / 2);
    let mut words = [0; MOST_HEAD_DIM / 2];
    let words = &mut words[..dim / 2];
    for (token, slot) in piece.tokens.clone().zip(piece.slot % RUN..) {
        let [key, value] = key_and_value(qkv, place, token, head);
        let scale = key_scale(s, key);
        key_scales[slot] = scale.to_bits();
        shorts(s, key, times(scale), words);
        for (word, to) in words.iter().zip(keys.chunks_exact_mut(RUN)) {
            to[slot] = *word;
        }
        let scale = value_scale(value);
        value_scales[slot] = scale.to_bits();
        shorts(s, value, times(scale), words);
        put_values(words, slot, values_of(values, slot, dim));
    }
}

/// A run of bytes with scales.
#[inline(always)]
fn store_bytes<S: Simd<WIDE>>(
    s: S,
    qkv: &[f32],
    place: &KvPlace,
    piece: &Piece,
    head: usize,
    run: &mut [u32],
) {
    let dim = place.head_dim;
    let (keys, rest) = run.split_at_mut(RUN * dim / 4);
    let (key_scales, rest) = rest.split_at_mut(RUN);
    let (values, value_scales) = rest.split_at_mut(RUN * padded(dim) / 4);
    let mut bytes = [0; MOST_HEAD_DIM];
    let bytes = &mut bytes[..dim];
    for (token, slot) in piece.tokens.clone().zip(piece.slot % RUN..) {
        let [key, value] = key_and_value(qkv, place, token, head);
        key_scales[slot] = quantize::bytes(s, key, bytes).to_bits();
        for (quad, to) in bytes.as_chunks().0.iter().zip(keys.chunks_exact_mut(RUN)) {
            to[slot] = u32::from_le_bytes(quad.map(|byte| byte as u8 ^ 0x80));
        }
        value_scales[slot] = quantize::bytes(s, value, bytes).to_bits();
        // A word is two dims of this token and the neighbouring one.
        let shift = slot % 2 * 8;
        let to = &mut values[slot / 2 * padded(dim) / 2..][..dim / 2];
        for (pair, to) in bytes.as_chunks::<2>().0.iter().zip(to) {
            let bits = u32::from(pair[0] as u8) | (u32::from(pair[1] as u8) << 16);
            *to = (*to & !(0x00ff_00ff << shift)) | (bits << shift);
        }
    }
}
