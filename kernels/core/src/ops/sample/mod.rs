//! Picks a token from a row of logits. Filters act in vLLM's order: temperature, min-p, top-k, top-p. The same row,
//! parameters and output index give the same token on every host: only basic f32 and f64 operations in a fixed order.
//!
//! A logit that is NaN counts as minus infinity.

mod filter;
mod philox;
mod vector;

use crate::backend::Sampled;
use crate::seats::{SeatParams, Seats};
use crate::step::Step;
use vector::{Peaks, exp_into, log_sum_exp};

/// A token and the natural log of its probability before temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Token id.
    pub token: usize,
    /// Of the raw distribution; minus infinity if no logit is a number.
    pub logprob: f32,
}

/// Samples each row of `logits`, `[step.samples.len(), width]`, with the seat of its sequence, and advances the seats.
pub fn sample_rows(logits: &[f32], width: usize, step: &Step, seats: &mut Seats, sampled: &mut Vec<Sampled>) {
    for (row, &at) in logits.chunks_exact(width).zip(&step.samples) {
        let seat_index = step.rows[step.row_of_token[at as usize] as usize].seat;
        let surplus = Sampled { token: -1, finish: 0, logprob: 0.0 };
        sampled.push(match seats.get(seat_index) {
            Some(seat) if !seat.frozen => {
                let choice = sample_row(row, &seat.params, seat.output_index);
                let token = choice.token as i32;
                Sampled { token, finish: seats.advance(seat_index, token), logprob: choice.logprob }
            }
            _ => surplus,
        });
    }
}

/// Picks a token from one row. Greedy takes the lowest id among equals; otherwise the choice is a function of the seed,
/// the choice index and `output_index`.
pub fn sample_row(logits: &[f32], params: &SeatParams, output_index: u32) -> Choice {
    let peaks = Peaks::of(logits);
    let token = if params.temperature == 0.0 || !peaks.max.is_finite() {
        peaks.first_max(logits)
    } else {
        let seed = u64::from(params.seed_low) | u64::from(params.seed_high) << 32;
        let uniform = philox::uniform(seed, params.choice, output_index);
        draw(logits, &peaks, params, uniform)
    };
    let logprob = logprob(logits, token, peaks.max);
    Choice { token, logprob }
}

fn logprob(logits: &[f32], token: usize, max: f32) -> f32 {
    if max == f32::INFINITY {
        let ties = logits.iter().filter(|&&x| x == max).count();
        return -(ties as f64).ln() as f32;
    }
    if max == f32::NEG_INFINITY {
        return f32::NEG_INFINITY;
    }
    (f64::from(logits[token]) - log_sum_exp(logits, max)) as f32
}

/// The token at which the running sum of the kept tokens' weights passes `uniform` of their total.
fn draw(logits: &[f32], peaks: &Peaks, params: &SeatParams, uniform: f64) -> usize {
    let scale = 1.0 / params.temperature;
    // So cold that only the maximum has weight.
    if !(scale as f32).is_finite() {
        return peaks.first_max(logits);
    }
    let kept = filter::keep(logits, peaks, params, scale as f32);
    let Some(kept) = kept else {
        let mut weights = vec![0.0; logits.len()];
        exp_into(logits, peaks.max, scale as f32, &mut weights);
        return pick(&weights, uniform);
    };
    kept.ids[pick(&kept.weights, uniform)] as usize
}

/// Index at which the running sum passes `uniform` (0 up to, not with, 1) of the total: sums of chunks in f64, then the
/// elements of the chunk. An element of weight 0 is never picked; the heaviest has weight 1.
fn pick(weights: &[f32], uniform: f64) -> usize {
    const CHUNK: usize = 256;
    let sums: Vec<f64> = weights.chunks(CHUNK).map(vector::sum).collect();
    let target = uniform * sums.iter().sum::<f64>();
    let mut before = 0.0;
    let mut last = 0;
    for (chunk, sum) in sums.iter().enumerate() {
        if *sum > 0.0 {
            let from = chunk * CHUNK;
            // Rounding may leave the target at the very end of the last chunk that has weight.
            let mut left = target - before;
            for (i, &weight) in weights[from..].iter().take(CHUNK).enumerate() {
                if weight > 0.0 {
                    last = from + i;
                    if target < before + sum && left < f64::from(weight) {
                        return last;
                    }
                }
                left -= f64::from(weight);
            }
            if target < before + sum {
                return last;
            }
        }
        before += sum;
    }
    last
}

#[cfg(test)]
mod tests;
