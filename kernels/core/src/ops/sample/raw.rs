//! What is told of a row of raw logits: log-probabilities, ranks and the most probable tokens.

use super::vector::{Peaks, log_sum_exp};
use crate::picks::Top;
use std::cmp::Ordering;

/// A row and what its log-probabilities need.
pub(super) struct Raw<'a> {
    logits: &'a [f32],
    peaks: &'a Peaks,
    /// Natural log of the sum of e^logit; of the number of infinite logits where there are any.
    log_total: f64,
}

/// A logit as it is compared: NaN is minus infinity, and there is one zero.
fn value(logit: f32) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { logit + 0.0 }
}

impl<'a> Raw<'a> {
    pub(super) fn new(logits: &'a [f32], peaks: &'a Peaks) -> Self {
        let max = peaks.max;
        let log_total = if max == f32::INFINITY {
            (logits.iter().filter(|&&x| x == max).count() as f64).ln()
        } else if max == f32::NEG_INFINITY {
            0.0
        } else {
            log_sum_exp(logits, max)
        };
        Self { logits, peaks, log_total }
    }

    /// Natural log of a token's probability; minus infinity if no logit is a number.
    pub(super) fn logprob(&self, token: usize) -> f32 {
        let logit = value(self.logits[token]);
        if logit == f32::INFINITY {
            return -self.log_total as f32;
        }
        if logit == f32::NEG_INFINITY || self.peaks.max == f32::INFINITY {
            return f32::NEG_INFINITY;
        }
        (f64::from(logit) - self.log_total) as f32
    }

    /// A token's place by probability, from 1, lower ids first among equals.
    pub(super) fn rank(&self, token: usize) -> u32 {
        let logit = value(self.logits[token]);
        let greater = self.logits.iter().filter(|&&x| x > logit).count();
        let equal = self.logits[..token].iter().filter(|&&x| value(x) == logit).count();
        (1 + greater + equal) as u32
    }

    /// The `count` most probable tokens, lower ids first among equals.
    pub(super) fn top(&self, count: usize) -> Vec<Top> {
        let count = count.min(self.logits.len());
        if count == 0 {
            return Vec::new();
        }
        let bound = self.peaks.bound(count);
        let mut ids: Vec<usize> = self
            .peaks
            .at_least(bound)
            .flat_map(|part| part.start..part.end.min(self.logits.len()))
            .filter(|&id| value(self.logits[id]) >= bound)
            .collect();
        let order = |&a: &usize, &b: &usize| -> Ordering {
            value(self.logits[b]).total_cmp(&value(self.logits[a])).then(a.cmp(&b))
        };
        if ids.len() > count {
            ids.select_nth_unstable_by(count - 1, order);
            ids.truncate(count);
        }
        ids.sort_unstable_by(order);
        ids.into_iter().map(|id| Top { token: id as i32, logprob: self.logprob(id) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw_of<T>(logits: &[f32], of: impl FnOnce(&Raw<'_>) -> T) -> T {
        let peaks = Peaks::of(logits);
        of(&Raw::new(logits, &peaks))
    }

    /// Ids by a full sort.
    fn sorted(logits: &[f32]) -> Vec<usize> {
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|&a, &b| value(logits[b]).partial_cmp(&value(logits[a])).unwrap());
        ids
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            20 => (-8_i32..8).prop_map(|x| x as f32 / 2.0),
            20 => -12.0_f32..12.0,
            1 => Just(f32::NAN),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn lists_and_ranks_are_those_of_a_full_sort(
            logits in proptest::collection::vec(logit(), 1..300),
            count in 0_usize..310,
        ) {
            let sorted = sorted(&logits);
            let max = f64::from(value(logits[sorted[0]]));
            let total: f64 = logits.iter().map(|&x| (f64::from(value(x)) - max).exp()).sum::<f64>().ln() + max;
            raw_of(&logits, |raw| {
                let top = raw.top(count);
                prop_assert_eq!(top.len(), count.min(logits.len()));
                for (top, &id) in top.iter().zip(&sorted) {
                    prop_assert_eq!(top.token as usize, id);
                    prop_assert_eq!(top.logprob, raw.logprob(id));
                    let exact = f64::from(value(logits[id])) - total;
                    let close = (f64::from(top.logprob) - exact).abs() < 1e-5;
                    prop_assert!(close || !exact.is_finite(), "{} {}", top.logprob, exact);
                }
                for (place, &id) in sorted.iter().enumerate() {
                    prop_assert_eq!(raw.rank(id) as usize, place + 1);
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn infinite_logits_share_the_probability() {
        let logits = [1.0, f32::INFINITY, f32::NAN, f32::INFINITY];
        raw_of(&logits, |raw| {
            let top = raw.top(4);
            assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 3, 0, 2]);
            assert_eq!(top[1].logprob, -(2.0_f64.ln()) as f32);
            assert_eq!(top[2].logprob, f32::NEG_INFINITY);
        });
        raw_of(&[f32::NAN; 3], |raw| {
            assert_eq!((raw.logprob(0), raw.rank(2), raw.top(2).len()), (f32::NEG_INFINITY, 3, 2));
        });
    }
}
