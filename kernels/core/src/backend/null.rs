//! Computes nothing at all: what a server costs on it is what everything but the kernels costs.

use super::Sampled;
use super::weightless::{Rule, Weightless, listed};
use crate::pages::PagesView;
use crate::picks::{self, Want};
use crate::seats::{Seat, SeatParams, Seats};
use crate::step::{Limits, Step};

/// The backend.
pub type NullBackend = Weightless<Null>;

/// Its rule: tokens follow from seed, choice and output index; all are equally probable.
#[derive(Debug, Default)]
pub struct Null;

impl Rule for Null {
    const NAME: &str = "null";

    /// The least there can be: what is measured on it is moving pages, not their bytes.
    fn page_bytes(_block_size: usize) -> usize {
        64
    }

    fn run(
        &mut self,
        step: &Step,
        _kv: &mut PagesView<'_>,
        limits: &Limits,
        seats: &mut Seats,
        sampled: &mut Vec<Sampled>,
    ) {
        let vocab_size = limits.vocab_size;
        let logprob = -(vocab_size as f32).ln();
        picks::take_all(step, seats, sampled, |_, want| {
            let token = match want {
                Want::Pick(seat) => token_of(seat, vocab_size),
                Want::Score { token, .. } => token,
            };
            listed(token, logprob, want, vocab_size)
        });
    }
}

/// Never a stop id, so that sequences run to `max_tokens`, unless all tokens are that may come.
fn token_of(seat: &Seat, vocab_size: usize) -> i32 {
    let Seat { params, output_index, .. } = seat;
    let SeatParams { seed_low, seed_high, choice, ref stop_ids, .. } = *params;
    let seed = u64::from(seed_low) | u64::from(seed_high) << 32;
    let place = u64::from(choice) << 32 | u64::from(*output_index);
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    let x = (seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let number = (x ^ x >> 31) as usize;
    if let Some(mask) = seat.mask() {
        let (first, count) = (number % mask.count(), mask.count());
        let tokens = (0..count.min(stop_ids.len() + 1)).map(|i| mask.choose(first + i) as i32);
        return tokens
            .into_iter()
            .find(|token| !stop_ids.contains(token))
            .unwrap_or(mask.choose(first) as i32);
    }
    let first = number % vocab_size;
    let tokens = (0..vocab_size).map(|i| ((first + i) % vocab_size) as i32);
    // One more look than there are stop ids finds a token that is none of them, if there is one.
    tokens.take(stop_ids.len() + 1).find(|token| !stop_ids.contains(token)).unwrap_or(first as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Pages;
    use crate::step::PICK;
    use crate::testing::{limits, step_words};

    fn seats(params: &SeatParams) -> Seats {
        let mut seats = Seats::new(4);
        for seat in 0..4 {
            seats.open(seat, Seat::new(params.clone(), &[]));
        }
        seats
    }

    #[expect(unsafe_code, reason = "views pages")]
    fn run(step: &Step, limits: &Limits, seats: &mut Seats) -> Vec<Sampled> {
        let mut sampled = Vec::new();
        let pages = Pages::map(Null::page_bytes(limits.block_size), limits.num_blocks).unwrap();
        // SAFETY: nobody else has the pages.
        let mut kv = unsafe { pages.view() };
        Null.run(step, &mut kv, limits, seats, &mut sampled);
        sampled
    }

    #[test]
    fn tokens_follow_from_seed_choice_and_output_index_and_reach_max_tokens() {
        let limits = limits();
        let step = step_words(0, &[(0, 0, &[1, 2])], &[1]).parse(&limits);
        let generate = |params: SeatParams| -> Vec<i32> {
            let mut seats = seats(&params);
            (0..50).map(|_| run(&step, &limits, &mut seats)[0].token).collect()
        };
        let default = || SeatParams { max_tokens: 40, ..SeatParams::default() };
        let tokens = generate(default());
        assert!(tokens[..40].iter().all(|&token| (0..limits.vocab_size as i32).contains(&token)));
        assert!(tokens[40..].iter().all(|&token| token == -1));
        assert_eq!(tokens, generate(default()));
        for params in [
            SeatParams { seed_low: 1, ..default() },
            SeatParams { seed_high: 1, ..default() },
            SeatParams { choice: 1, ..default() },
        ] {
            assert_ne!(tokens, generate(params));
        }
    }

    #[test]
    fn a_stop_id_is_picked_only_when_all_tokens_are() {
        let limits = Limits { vocab_size: 5, ..limits() };
        let step = step_words(0, &[(0, 0, &[1])], &[0]).parse(&limits);
        for stop_ids in [vec![0, 1, 3, 4], vec![3, 1, 4, 0, 0]] {
            let mut seats = seats(&SeatParams { stop_ids, ..SeatParams::default() });
            assert!((0..30).all(|_| run(&step, &limits, &mut seats)[0].token == 2));
        }
        let mut seats = seats(&SeatParams { stop_ids: (0..5).collect(), ..SeatParams::default() });
        let sampled = run(&step, &limits, &mut seats);
        assert!((0..5).contains(&sampled[0].token) && sampled[0].finish == 1);
    }

    #[test]
    fn targets_and_lists_are_answered_as_asked() {
        let limits = limits();
        let mut words = step_words(0, &[(0, 0, &[1, 2, 3])], &[0, 1, 2]);
        words.targets = vec![2, 3, PICK];
        let step = words.parse(&limits);
        let sampled = run(&step, &limits, &mut seats(&SeatParams::default()));
        let uniform = -(limits.vocab_size as f32).ln();
        assert_eq!(sampled.iter().map(|s| s.logprob).collect::<Vec<_>>(), [uniform, uniform, 0.0]);
        assert!(sampled.iter().all(|s| s.rank == 0 && s.top.is_empty()));
        assert!(sampled[0].token == -1 && sampled[1].token == -1 && sampled[2].token >= 0);
        let params = SeatParams { top_logprobs: 2, prompt_logprobs: 0, ..SeatParams::default() };
        let sampled = run(&step, &limits, &mut seats(&params));
        assert_eq!(sampled.iter().map(|s| s.top.len()).collect::<Vec<_>>(), [0, 0, 2]);
        assert!(sampled.iter().all(|s| s.logprob == uniform && s.rank == 1));
        assert_eq!(sampled[2].top[0].token, sampled[2].token);
    }
}
