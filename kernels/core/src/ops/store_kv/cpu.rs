//! Keys and values of tokens into their slots, as IEEE halves, in the tile order that `ops/attention/cpu` describes.
#![expect(unsafe_code, reason = "runs of slots are written by different threads")]

use std::ops::Range;

use super::KvPlace;
use crate::arena::{Arena, KeyOrValue};
use crate::ops::attention::cpu::RUN;
use crate::pages::PagesView;
use crate::pool::Pool;
use crate::simd::{Isa, LANES, Simd, with_simd};
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
        // SAFETY: pieces have different runs, or else follow each other on one thread.
        with_simd!(isa, s => unsafe { write(s, qkv, place, arena, &pieces[index], kv) });
    };
    if apart && qkv.len() > SERIAL {
        pool.run(pieces.len(), &store);
    } else {
        (0..pieces.len()).for_each(|index| store(index, 0));
    }
}

/// Writes the tokens of a piece.
///
/// # Safety
/// No other thread writes this piece's run.
#[inline(always)]
unsafe fn write<S: Simd>(
    s: S,
    qkv: &[f32],
    place: &KvPlace,
    arena: &Arena,
    piece: &Piece,
    kv: &PagesView<'_>,
) {
    let dim = place.head_dim;
    let Piece { tokens, block, slot } = piece;
    let (block, slot) = (*block, *slot);
    let tile = |which, head| arena.tile(place.group, block, place.layer, which, head);
    let bytes = |elements| elements * size_of::<u16>();
    for head in 0..place.num_kv_heads {
        // SAFETY: the run and the values belong to this piece (see above) and to this head.
        let (keys, values) = unsafe {
            (
                kv.part::<u16>(tile(KeyOrValue::Key, head) + bytes(slot / RUN * RUN * dim), RUN * dim),
                kv.part::<u16>(tile(KeyOrValue::Value, head) + bytes(slot * dim), tokens.len() * dim),
            )
        };
        let keys = keys.as_chunks_mut::<RUN>().0;
        for (token, values) in tokens.clone().zip(values.chunks_exact_mut(dim)) {
            let row = &qkv[token * place.width()..][..place.width()];
            let key = &row[(place.num_heads + head) * dim..][..dim];
            let value = &row[(place.num_heads + place.num_kv_heads + head) * dim..][..dim];
            let lane = slot % RUN + token - tokens.start;
            for (key, to) in key.as_chunks::<LANES>().0.iter().zip(keys.as_chunks_mut::<LANES>().0) {
                let mut halves = [0; LANES];
                s.store_half(&mut halves, s.load(key));
                for (half, to) in halves.into_iter().zip(to) {
                    to[lane] = half;
                }
            }
            for (value, to) in value.as_chunks::<LANES>().0.iter().zip(values.as_chunks_mut::<LANES>().0) {
                s.store_half(to, s.load(value));
            }
        }
    }
}
