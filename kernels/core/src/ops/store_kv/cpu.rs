//! Keys and values of tokens into their slots, in the order that `ops/attention/cpu/layout.rs` describes; rotated on the way,
//! where rows are at hand.
#![expect(unsafe_code, reason = "rows and runs of slots are written by different threads")]

use std::ops::Range;

use super::KvPlace;
use crate::arena::Arena;
use crate::ops::attention::cpu::layout::{KvDType, MOST_HEAD_DIM, Parts, RUN, padded};
use crate::ops::attention::cpu::quantize::{self, key_scale, shorts, times, value_scale};
use crate::ops::rope::{Rope, cpu as rope};
use crate::pages::PagesView;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Simd, WIDE, with_pairs_simd, with_simd, with_wide_simd};
use crate::step::Step;

/// Below this many elements one thread does it.
const SERIAL: usize = 8192;
/// Of a cache.
const LINE: usize = 64;

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

/// What is done to rows before their keys and values are written.
pub struct Rotation<'a> {
    /// As the op has it.
    pub rope: Rope<'a>,
    /// Of the step's positions; see [`rope::Angles`].
    pub angles: &'a [f32],
}

impl Rotation<'_> {
    /// Rotates the rows of these tokens in place.
    #[inline(always)]
    fn rotate(&self, tokens: &Range<usize>, rows: &mut [f32], width: usize) {
        let dims = self.rope.dims;
        for (token, row) in tokens.clone().zip(rows.chunks_exact_mut(width)) {
            rope::row(&self.rope, &self.angles[token * dims..][..dims], row);
        }
    }
}

/// Writes K and V of all tokens, rotated if asked for, where `qkv`, of `[tokens, place.width()]`, is rotated too.
pub fn store(
    isa: Isa,
    pool: &mut Pool,
    dtype: KvDType,
    qkv: &Disjoint<'_, f32>,
    rotation: Option<&Rotation<'_>>,
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
    let (width, parts) = (place.width(), dtype.parts(place.head_dim));
    let run_of = |piece: &Piece, head: usize| dtype.run(arena, place, piece.block, head, piece.slot / RUN);
    let ask = |piece: &Piece, head: usize| {
        let run = kv.read(run_of(piece, head), parts.end);
        with_wide_simd!(isa, s => ask_for(s, &parts, piece, run));
    };
    let store = |qkv: &[f32], piece: &Piece, head: usize| {
        let at = run_of(piece, head);
        let len = RUN * (place.head_dim + padded(place.head_dim));
        let tokens = qkv.chunks_exact(width).map(|row| key_and_value(row, place, head));
        let tokens = tokens.zip(piece.slot % RUN..);
        match dtype {
            KvDType::F16 => {
                // SAFETY: pieces have different runs, or else follow each other on one thread.
                let run = unsafe { kv.part(at, len) };
                with_wide_simd!(isa, s => store_halves(s, tokens, place.head_dim, run));
            }
            KvDType::BF16 => {
                // SAFETY: as above.
                let run = unsafe { kv.part(at, len / 2) };
                with_pairs_simd!(isa, s => store_pairs(s, tokens, place.head_dim, run));
            }
            KvDType::Q16 => {
                // SAFETY: as above.
                let run = unsafe { kv.part(at, parts.end / size_of::<u32>()) };
                with_wide_simd!(isa, s => store_shorts(s, tokens, place.head_dim, run));
            }
            KvDType::Q8 => {
                // SAFETY: as above.
                let run = unsafe { kv.part(at, parts.end / size_of::<u32>()) };
                with_wide_simd!(isa, s => store_bytes(s, tokens, place.head_dim, run));
            }
        }
    };
    let store_all = |indices: Range<usize>, _: usize| {
        let heads = place.num_kv_heads;
        let mine = &pieces[indices];
        if let Some(first) = mine.first() {
            (0..heads).for_each(|head| ask(first, head));
        }
        for (i, piece) in mine.iter().enumerate() {
            let tokens = &piece.tokens;
            // SAFETY: each token is in one piece.
            let rows = unsafe { qkv.part(tokens.start * width, tokens.len() * width) };
            if let Some(rotation) = rotation {
                with_simd!(isa, _s => rotation.rotate(tokens, rows, width));
            }
            for head in 0..heads {
                if let Some(next) = mine.get(i + 1) {
                    ask(next, head);
                }
                store(rows, piece, head);
            }
        }
    };
    if apart && step.tokens.len() * width > SERIAL {
        pool.share(pieces.len(), &store_all);
    } else {
        store_all(0..pieces.len(), 0);
    }
}

/// Asks for the lines of a run that a piece is written to: they come from memory, and a core waits for few writes at a time.
#[inline(always)]
fn ask_for<S: Simd<WIDE>>(s: S, parts: &Parts, piece: &Piece, run: &[u8]) {
    // Values of two neighbours may lie in each other.
    let pair = (parts.value_scales - parts.values) / (RUN / 2);
    let (first, end) = (piece.slot % RUN, piece.slot % RUN + piece.tokens.len());
    let values = parts.values + first / 2 * pair..parts.values + end.div_ceil(2) * pair;
    for bytes in [0..parts.values, values, parts.value_scales..parts.end] {
        for line in run[bytes].chunks(LINE) {
            s.prefetch(&line[0]);
        }
    }
}

/// Key and value of a head in a token's row.
fn key_and_value<'a>(row: &'a [f32], place: &KvPlace, head: usize) -> [&'a [f32]; 2] {
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
fn store_halves<'a, S: Simd<WIDE>>(
    s: S,
    tokens: impl Iterator<Item = ([&'a [f32]; 2], usize)>,
    dim: usize,
    run: &mut [u16],
) {
    let (keys, values) = run.split_at_mut(RUN * dim);
    for ([key, value], slot) in tokens {
        for (from, to) in key.chunks(WIDE).zip(keys.chunks_mut(WIDE * RUN)) {
            let mut halves = [0; WIDE];
            s.store_half(&mut halves, load(s, from));
            for (half, to) in halves.into_iter().zip(to.chunks_exact_mut(RUN)) {
                to[slot] = half;
            }
        }
        let to = &mut values[slot * padded(dim)..];
        for (from, to) in value.chunks(WIDE).zip(to.as_chunks_mut().0) {
            s.store_half(to, load(s, from));
        }
    }
}

/// A run of bfloat16 in pairs.
#[inline(always)]
fn store_pairs<'a, S: Simd<WIDE>>(
    s: S,
    tokens: impl Iterator<Item = ([&'a [f32]; 2], usize)>,
    dim: usize,
    run: &mut [u32],
) {
    let (keys, values) = run.split_at_mut(RUN * dim / 2);
    for ([key, value], slot) in tokens {
        for (from, to) in key.chunks(2 * WIDE).zip(keys.chunks_mut(WIDE * RUN)) {
            for (word, to) in words_of(s, from).into_iter().zip(to.chunks_exact_mut(RUN)) {
                to[slot] = word;
            }
        }
        let to = values_of(values, slot, dim);
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
fn store_shorts<'a, S: Simd<WIDE>>(
    s: S,
    tokens: impl Iterator<Item = ([&'a [f32]; 2], usize)>,
    dim: usize,
    run: &mut [u32],
) {
    let (keys, rest) = run.split_at_mut(RUN * dim / 2);
    let (key_scales, rest) = rest.split_at_mut(RUN);
    let (values, value_scales) = rest.split_at_mut(RUN * padded(dim) / 2);
    let mut words = [0; MOST_HEAD_DIM / 2];
    let words = &mut words[..dim / 2];
    for ([key, value], slot) in tokens {
        let scale = key_scale(s, key);
        key_scales[slot] = scale.to_bits();
        shorts(s, key, times(scale), words);
        for (word, to) in words.iter().zip(keys.chunks_exact_mut(RUN)) {
            to[slot] = *word;
        }
        let scale = value_scale(s, value);
        value_scales[slot] = scale.to_bits();
        shorts(s, value, times(scale), words);
        put_values(words, slot, values_of(values, slot, dim));
    }
}

/// A run of bytes with scales.
#[inline(always)]
fn store_bytes<'a, S: Simd<WIDE>>(
    s: S,
    tokens: impl Iterator<Item = ([&'a [f32]; 2], usize)>,
    dim: usize,
    run: &mut [u32],
) {
    let (keys, rest) = run.split_at_mut(RUN * dim / 4);
    let (key_scales, rest) = rest.split_at_mut(RUN);
    let (values, value_scales) = rest.split_at_mut(RUN * padded(dim) / 4);
    let mut bytes = [0; MOST_HEAD_DIM];
    let bytes = &mut bytes[..dim];
    for ([key, value], slot) in tokens {
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
