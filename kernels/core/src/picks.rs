//! Which samples of a step pick a token, and in which order: the rule that all backends share.
//!
//! A row's first pick stands on its newest known token, each further one on a draft of what the pick before it will be.
//! A pick on a draft counts only if the draft was right; from the first wrong one on, and once the seat has frozen,
//! nothing is picked and the seat stays as it is. A sample with a target picks nothing: it reports on its target.

use crate::backend::Sampled;
use crate::seats::{Seat, Seats};
use crate::step::{PICK, RowPicks, Step};

/// Finish code of a seat whose grammar has given up: it broke one of its limits.
pub const GRAMMAR_FAILED: u8 = 3;

/// A token of a list of the most probable ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Top {
    /// The token.
    pub token: i32,
    /// Natural log of its probability under the model.
    pub logprob: f32,
}

/// What a sample is asked.
#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// To pick a token for a seat. The seat advances afterwards.
    Pick(&'a Seat),
    /// To report on a token.
    Score {
        /// The token.
        token: i32,
        /// How many of the most probable tokens are wanted; `None`: not even the token's rank.
        top: Option<usize>,
    },
}

impl Want<'_> {
    /// How many of the most probable tokens are wanted; `None`: not even the token's rank.
    pub fn top(&self) -> Option<usize> {
        match *self {
            Self::Pick(seat) => usize::try_from(seat.params.top_logprobs).ok(),
            Self::Score { top, .. } => top,
        }
    }

    /// Whether the token's log-probability is wanted.
    pub fn wants_logprob(&self) -> bool {
        matches!(self, Self::Score { .. }) || self.top().is_some()
    }
}

/// The answer: of the raw distribution, before anything that acts on picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The picked token, or the one that was asked for.
    pub token: i32,
    /// Natural log of its probability; 0 = not asked.
    pub logprob: f32,
    /// Its place among all by probability, from 1, lower ids first among equals; 0 = not asked.
    pub rank: u32,
    /// As many of the most probable tokens as were asked for.
    pub top: Vec<Top>,
}

impl Choice {
    /// A token of which nothing was asked.
    pub fn only(token: i32) -> Self {
        Self { token, logprob: 0.0, rank: 0, top: Vec::new() }
    }
}

impl Sampled {
    /// Nothing was picked and nothing was asked.
    pub const NONE: Self =
        Self { token: -1, finish: 0, logprob: 0.0, rank: 0, top: Vec::new(), forced: Vec::new() };
}

/// Takes the picks of one row in order, each once it is known which tokens may come; `out` has one element for each. `look` is called, with the sample's index, for
/// those that count.
pub fn take_picks(
    step: &Step,
    picks: &RowPicks,
    seat: Option<&mut Seat>,
    out: &mut [Sampled],
    mut look: impl FnMut(usize, Want<'_>) -> Choice,
) {
    out.fill(Sampled::NONE);
    let Some(seat) = seat else { return };
    for (i, out) in (picks.first..picks.first + picks.len).zip(out) {
        let wrong_draft = i > picks.first && seat.last_token != Some(step.tokens[step.samples[i] as usize]);
        if wrong_draft {
            return;
        }
        if !seat.wait() {
            out.finish = GRAMMAR_FAILED;
            return;
        }
        if seat.frozen {
            return;
        }
        let Choice { token, logprob, rank, top } = look(i, Want::Pick(seat));
        let forced = seat.forced_behind(token);
        *out = Sampled { token, finish: seat.advance(token), logprob, rank, top, forced };
    }
}

/// Answers a sample that has a target.
pub fn score_target(
    step: &Step,
    sample: usize,
    seats: &Seats,
    look: impl FnOnce(usize, Want<'_>) -> Choice,
) -> Sampled {
    let seat = seats.get(step.row_of_sample(sample).seat);
    let top = seat.and_then(|seat| usize::try_from(seat.params.prompt_logprobs).ok());
    let Choice { logprob, rank, top, .. } = look(sample, Want::Score { token: step.targets[sample], top });
    Sampled { logprob, rank, top, ..Sampled::NONE }
}

/// Answers all samples of a step, one after the other, behind what `sampled` holds.
pub fn take_all(
    step: &Step,
    seats: &mut Seats,
    sampled: &mut Vec<Sampled>,
    mut look: impl FnMut(usize, Want<'_>) -> Choice,
) {
    let before = sampled.len();
    sampled.resize(before + step.samples.len(), Sampled::NONE);
    let out = &mut sampled[before..];
    for sample in (0..step.samples.len()).filter(|&i| step.targets[i] != PICK) {
        out[sample] = score_target(step, sample, seats, &mut look);
    }
    for picks in &step.picks {
        let seat = seats.get_mut(step.rows[picks.row].seat);
        take_picks(step, picks, seat, &mut out[picks.first..picks.first + picks.len], &mut look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::SeatParams;
    use crate::testing::step_words;

    const NUM_SEATS: usize = 4;

    fn step(rows: &[(usize, usize, &[i32])], samples: &[usize], targets: &[i32]) -> Step {
        let mut words = step_words(0, rows, samples);
        words.targets = targets.to_vec();
        words.parse(&crate::testing::limits())
    }

    /// Runs a step whose sample i wants to pick `wanted[i]`; answers tokens and finish codes.
    fn taken(step: &Step, seats: &mut Seats, wanted: &[i32]) -> Vec<(i32, u8)> {
        let mut sampled = Vec::new();
        take_all(step, seats, &mut sampled, |i, want| match want {
            Want::Pick(_) => Choice { token: wanted[i], logprob: -1.0, rank: 0, top: vec![] },
            Want::Score { token, top } => {
                Choice { token, logprob: -2.0, rank: top.map_or(0, |k| k as u32 + 1), top: vec![] }
            }
        });
        sampled.iter().map(|s| (s.token, s.finish)).collect()
    }

    fn seats(params: SeatParams) -> Seats {
        let mut seats = Seats::new(NUM_SEATS);
        seats.open(1, Seat::new(params, &[]));
        seats
    }

    #[test]
    fn right_drafts_count_and_the_first_wrong_one_ends_the_row() {
        let step = step(&[(1, 5, &[9, 10, 11, 12])], &[0, 1, 2, 3], &[PICK; 4]);
        for (wanted, expected) in [
            ([10, 11, 12, 13], [10, 11, 12, 13]),
            ([10, 11, 50, 13], [10, 11, 50, -1]),
            ([10, 50, 12, 13], [10, 50, -1, -1]),
            ([50, 11, 12, 13], [50, -1, -1, -1]),
        ] {
            let mut seats = seats(SeatParams::default());
            let tokens: Vec<i32> = taken(&step, &mut seats, &wanted).iter().map(|t| t.0).collect();
            assert_eq!(tokens, expected);
            let picked: Vec<i32> = expected.into_iter().filter(|&t| t >= 0).collect();
            let seat = seats.get(1).unwrap();
            assert_eq!(seat.output_index as usize, picked.len());
            assert_eq!(seat.last_token.as_ref(), picked.last());
        }
    }

    #[test]
    fn a_seat_that_freezes_on_a_right_draft_picks_no_more() {
        let step = step(&[(1, 5, &[9, 10, 11])], &[0, 1, 2], &[PICK; 3]);
        let mut stopping = seats(SeatParams { stop_ids: vec![10], ..SeatParams::default() });
        assert_eq!(taken(&step, &mut stopping, &[10, 11, 12]), [(10, 1), (-1, 0), (-1, 0)]);
        assert_eq!(taken(&step, &mut stopping, &[10, 11, 12]), [(-1, 0); 3]);
        let mut short = seats(SeatParams { max_tokens: 2, ..SeatParams::default() });
        assert_eq!(taken(&step, &mut short, &[10, 11, 12]), [(10, 0), (11, 2), (-1, 0)]);
    }

    #[test]
    fn targets_are_reported_and_leave_the_seat_alone() {
        let step = step(&[(2, 0, &[1, 2]), (1, 0, &[3, 4, 5])], &[0, 2, 3, 4], &[2, 4, 5, PICK]);
        let mut seats = seats(SeatParams { prompt_logprobs: 3, ..SeatParams::default() });
        let mut sampled = Vec::new();
        take_all(&step, &mut seats, &mut sampled, |i, want| match want {
            Want::Pick(seat) => {
                assert_eq!((i, seat.output_index), (3, 0));
                Choice { token: 7, logprob: -1.0, rank: 0, top: vec![] }
            }
            Want::Score { token, top } => {
                assert_eq!(token, step.targets[i]);
                assert_eq!(top, if i == 0 { None } else { Some(3) });
                Choice { token, logprob: -2.0, rank: 4, top: vec![Top { token: 8, logprob: -0.5 }] }
            }
        });
        assert_eq!(sampled.iter().map(|s| s.token).collect::<Vec<_>>(), [-1, -1, -1, 7]);
        assert_eq!((sampled[1].logprob, sampled[1].rank, sampled[1].top.len()), (-2.0, 4, 1));
        assert_eq!(seats.get(1).unwrap().output_index, 1);
    }

    #[test]
    fn rows_without_an_open_seat_pick_nothing() {
        let step = step(&[(0, 0, &[1])], &[0], &[PICK]);
        assert_eq!(taken(&step, &mut seats(SeatParams::default()), &[5]), [(-1, 0)]);
    }
}
