//! Picks a token from a row of logits. What acts on a row acts in vLLM's order: log-probabilities, rank and the list of the
//! most probable tokens are those of the raw logits; then allowed ids, the grammar's mask, bad words, minimum length, bias and penalties
//! ([`adjust`]), temperature, min-p, top-k, top-p ([`filter`]). The same row, parameters, history and output index give the
//! same token on every host: only basic f32 and f64 operations in a fixed order.
//!
//! A logit that is NaN counts as minus infinity.

mod adjust;
pub(crate) mod asked;
mod filter;
pub mod history;
mod philox;
pub(crate) mod pooled;
mod raw;
mod vector;

use crate::backend::Sampled;
use crate::grammar::Mask;
use crate::picks::{Choice, Want, take_all};
use crate::seats::{Seat, SeatParams, Seats};
use crate::step::Step;
use adjust::{adjust, never_adjusts};
use raw::Raw;
use vector::{CHUNK, Peaks, exp_into, sums, weight_sums};

/// Answers each row of `logits`, `[step.samples.len(), width]`, one after the other, and advances the seats.
pub fn sample_rows(logits: &[f32], width: usize, step: &Step, seats: &mut Seats, sampled: &mut Vec<Sampled>) {
    let mut scratch = Vec::new();
    take_all(step, seats, sampled, |i, want| sample_row(&logits[i * width..][..width], want, &mut scratch));
}

/// Answers one row. `scratch` is memory for a changed copy of the row, kept between calls.
pub fn sample_row(logits: &[f32], want: Want<'_>, scratch: &mut Vec<f32>) -> Choice {
    let peaks = Peaks::of(logits);
    let token = match want {
        Want::Score { token, .. } => token as usize,
        Want::Pick(seat) => {
            if let Some(forced) = seat.mask().and_then(Mask::only) {
                forced
            } else if adjust(logits, seat, scratch) {
                pick_token(scratch, &Peaks::of(scratch), seat)
            } else {
                pick_token(logits, &peaks, seat)
            }
        }
    };
    if !want.wants_logprob() {
        return Choice::only(token as i32);
    }
    let raw = Raw::new(logits, &peaks);
    Choice {
        token: token as i32,
        logprob: raw.logprob(token),
        rank: if want.top().is_some() { raw.rank(token) } else { 0 },
        top: want.top().map_or_else(Vec::new, |count| raw.top(count)),
    }
}

/// Whether each pick of a seat is its largest logit, of equals the lowest, and nothing else of the row is asked for: with what
/// [`sample_row`] answers then, whatever the seat has picked before.
pub(crate) fn takes_largest(seat: &Seat) -> bool {
    let params = &seat.params;
    scale_of(params).is_none() && seat.matching.is_none() && never_adjusts(params) && params.top_logprobs < 0
}

/// One by the temperature; `None`: 0, or so cold that only the maximum has weight.
fn scale_of(params: &SeatParams) -> Option<f32> {
    Some((1.0 / params.temperature) as f32).filter(|scale| scale.is_finite())
}

/// Greedy takes the lowest id among equals; otherwise the token is a function of the seed, the choice and the output
/// index. Where nothing can be picked it is the lowest id that is allowed: by the grammar, else by the seat.
fn pick_token(logits: &[f32], peaks: &Peaks, seat: &Seat) -> usize {
    let params = &seat.params;
    if peaks.max == f32::NEG_INFINITY {
        let allowed = params.allowed_ids.iter().min().map_or(0, |&id| id as usize);
        return seat.mask().map_or(allowed, Mask::lowest);
    }
    let Some(scale) = scale_of(params).filter(|_| peaks.max != f32::INFINITY) else {
        return peaks.first_max(logits);
    };
    let seed = u64::from(params.seed_low) | u64::from(params.seed_high) << 32;
    draw(logits, peaks, params, scale, philox::uniform(seed, params.choice, seat.output_index))
}

/// The token at which the running sum of the kept tokens' weights passes `uniform` of their total.
fn draw(logits: &[f32], peaks: &Peaks, params: &SeatParams, scale: f32, uniform: f64) -> usize {
    let Some(kept) = filter::keep(logits, peaks, params, scale) else {
        let sums = weight_sums(logits, peaks.max, scale);
        return pick(&sums, uniform, |from| {
            let mut weights = vec![0.0; CHUNK.min(logits.len() - from)];
            exp_into(&logits[from..], peaks.max, scale, &mut weights);
            weights
        });
    };
    let sums = sums(&kept.weights);
    let index = pick(&sums, uniform, |from| kept.weights[from..].iter().take(CHUNK).copied().collect());
    kept.ids[index] as usize
}

/// Index of the element at which the running sum of weights passes `uniform` (0 up to, not with, 1) of the total: first over the
/// `sums` of chunks, then over `weights_from` where a chunk begins. An element of weight 0 is never picked; the heaviest has weight 1.
fn pick(sums: &[f64], uniform: f64, weights_from: impl FnOnce(usize) -> Vec<f32>) -> usize {
    let target = uniform * sums.iter().sum::<f64>();
    let (mut before, mut chunk) = (0.0, 0);
    // Rounding may leave the target behind all chunks: then it is the last element that has weight.
    let mut left = f64::INFINITY;
    for (i, &sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
        chunk = i;
        if target < before + sum {
            left = target - before;
            break;
        }
        before += sum;
    }
    let from = chunk * CHUNK;
    let mut last = from;
    for (i, weight) in (from..).zip(weights_from(from)).filter(|(_, weight)| *weight > 0.0) {
        last = i;
        if left < f64::from(weight) {
            break;
        }
        left -= f64::from(weight);
    }
    last
}

#[cfg(test)]
mod tests;
