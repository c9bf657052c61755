//! The sampler where a device picks: what it is asked of each sample, and what its answers come to. The structs are those of
//! `kernel.cu` beside this file; the picks are those of [`super::sample_row`], to the bit.

use super::adjust::never_adjusts;
use super::{philox, scale_of};
use crate::picks::{Choice, Top, Want};
use crate::seats::{Seat, Seats};
use crate::step::{PICK, Step};

/// What is asked of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Wish {
    /// In 0..1.
    uniform: f64,
    top_p: f64,
    /// One by the temperature; 0 = the most probable token.
    scale: f32,
    min_p: f32,
    /// 0 = all.
    top_k: i32,
    /// The token to report, or -1: pick one.
    target: i32,
    /// What is picked where no logit is a number.
    fallback: i32,
    /// Length of the list of the most probable tokens; -1 = none, nor the rank.
    top: i32,
    /// Whether the row has edits.
    adjusted: i32,
    unused: i32,
}

/// What is known of a sample's raw row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Answer {
    /// Sum of e^(logit - max); the number of infinite logits where there are any.
    total: f64,
    max: f32,
    /// The token's.
    logit: f32,
    token: i32,
    rank: i32,
    _unused: f64,
}

/// A change of a row: an id, and what of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Edit {
    id: i32,
    /// Bias, or repetition penalty; then what frequency and presence take away.
    x: f32,
    y: f32,
    z: f32,
}

/// A step's questions.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// One a sample.
    pub(crate) wishes: Vec<Wish>,
    pub(crate) edits: Vec<Edit>,
    /// Of sample i the edits from `starts[5i]` to `starts[5i + 4]`, with three cuts between: allowed ids, forbidden ids, biases,
    /// penalties.
    pub(crate) starts: Vec<i32>,
    /// Longest list of most probable tokens.
    pub(crate) most_top: usize,
}

const GREEDY: Wish = Wish {
    uniform: 0.0,
    top_p: 1.0,
    scale: 0.0,
    min_p: 0.0,
    top_k: 0,
    target: PICK,
    fallback: 0,
    top: -1,
    adjusted: 0,
    unused: 0,
};

impl Asked {
    /// Takes in a step's questions, in the memory of the step before; false where a device cannot be asked: a pick behind a draft
    /// depends on edits that follow from the picks before it, or a grammar's mask is most of the vocabulary.
    pub(crate) fn read(&mut self, step: &Step, seats: &Seats) -> bool {
        self.wishes.clear();
        self.wishes.resize(step.samples.len(), GREEDY);
        self.edits.clear();
        self.starts.clear();
        self.most_top = 0;
        for (i, &target) in step.targets[..step.samples.len()].iter().enumerate() {
            if target != PICK {
                let seat = seats.get(step.row_of_sample(i).seat);
                let top = seat.map_or(-1, |seat| seat.params.prompt_logprobs);
                self.wishes[i] = Wish { target, top, ..GREEDY };
            }
        }
        let mut next = 0;
        for picks in &step.picks {
            self.no_edits(picks.first - next);
            next = picks.first + picks.len;
            let seat = seats.get(step.rows[picks.row].seat).filter(|seat| !seat.frozen);
            if seat.is_some_and(|seat| seat.matching.is_some()) {
                return false;
            }
            let edited = seat.is_some_and(|seat| self.edit(seat));
            if seat.is_none() {
                self.no_edits(1);
            }
            if picks.len > 1 && (edited || seat.is_some_and(|seat| !never_adjusts(&seat.params))) {
                return false;
            }
            self.no_edits(picks.len - 1);
            for (k, wish) in self.wishes[picks.first..next].iter_mut().enumerate() {
                if let Some(seat) = seat {
                    *wish = Wish { adjusted: i32::from(edited), ..wish_of(seat, k as u32) };
                }
            }
        }
        self.no_edits(step.samples.len() - next);
        self.most_top = self.wishes.iter().map(|wish| wish.top.max(0) as usize).max().unwrap_or(0);
        true
    }

    fn no_edits(&mut self, samples: usize) {
        self.starts.extend(std::iter::repeat_n(self.edits.len() as i32, 5 * samples));
    }

    /// Adds a seat's edits as one sample's; false where it has none.
    fn edit(&mut self, seat: &Seat) -> bool {
        let params = &seat.params;
        let first = self.edits.len();
        let of = |id: i32| Edit { id, x: 0.0, y: 0.0, z: 0.0 };
        let cut = |asked: &mut Self| asked.starts.push(asked.edits.len() as i32);
        cut(self);
        self.edits.extend(params.allowed_ids.iter().copied().map(of));
        cut(self);
        for word in &params.bad_words {
            if let Some((&last, before)) = word.split_last()
                && seat.history.ends_with(before)
            {
                self.edits.push(of(last));
            }
        }
        if seat.output_index < params.min_tokens {
            self.edits.extend(params.stop_ids.iter().copied().map(of));
        }
        cut(self);
        let biases = params.logit_bias_ids.iter().zip(&params.logit_biases);
        self.edits.extend(biases.map(|(&id, &bias)| Edit { x: bias as f32, ..of(id) }));
        cut(self);
        let frequency = params.frequency_penalty as f32;
        self.edits.extend(seat.history.seen().iter().map(|seen| Edit {
            id: seen.token,
            x: params.repetition_penalty as f32,
            y: frequency * seen.outputs as f32,
            z: if seen.outputs > 0 { params.presence_penalty as f32 } else { 0.0 },
        }));
        cut(self);
        self.edits.len() > first
    }
}

/// Devices have the little end first.
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// The wish for the pick after `ahead` more.
fn wish_of(seat: &Seat, ahead: u32) -> Wish {
    let params = &seat.params;
    let seed = u64::from(params.seed_low) | u64::from(params.seed_high) << 32;
    Wish {
        uniform: philox::uniform(seed, params.choice, seat.output_index + ahead),
        top_p: params.top_p,
        scale: scale_of(params).unwrap_or(0.0),
        min_p: params.min_p as f32,
        top_k: i32::try_from(params.top_k).unwrap_or(0),
        fallback: params.allowed_ids.iter().copied().min().unwrap_or(0),
        top: params.top_logprobs,
        ..GREEDY
    }
}

impl Answer {
    /// From the device's bytes.
    pub(crate) fn read(bytes: &[u8; size_of::<Self>()]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let double =
            |i: usize| f64::from_bits(u64::from(word(words[i])) | u64::from(word(words[i + 1])) << 32);
        Self {
            total: double(0),
            max: f32::from_bits(word(words[2])),
            logit: f32::from_bits(word(words[3])),
            token: word(words[4]) as i32,
            rank: word(words[5]) as i32,
            _unused: 0.0,
        }
    }

    /// What the sample came to; `tops` are the most probable tokens with their logits.
    pub(crate) fn choice(&self, want: Want<'_>, tops: &[(u32, f32)]) -> Choice {
        if !want.wants_logprob() {
            return Choice::only(self.token);
        }
        let top = want.top();
        let tops = &tops[..top.unwrap_or(0).min(tops.len())];
        Choice {
            token: self.token,
            logprob: self.logprob(self.logit),
            rank: if top.is_some() { self.rank as u32 } else { 0 },
            top: tops
                .iter()
                .map(|&(id, logit)| Top { token: id as i32, logprob: self.logprob(logit) })
                .collect(),
        }
    }

    /// As [`super::raw::Raw::logprob`].
    fn logprob(&self, logit: f32) -> f32 {
        let logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit + 0.0 };
        if logit == f32::INFINITY {
            return -self.total.ln() as f32;
        }
        if logit == f32::NEG_INFINITY || self.max == f32::INFINITY {
            return f32::NEG_INFINITY;
        }
        (f64::from(logit) - (f64::from(self.max) + self.total.ln())) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::SeatParams;
    use crate::testing::{greedy, limits, step_words};

    fn seats(params: &[SeatParams]) -> Seats {
        let mut seats = Seats::new(params.len());
        for (i, params) in params.iter().enumerate() {
            seats.open(i, Seat::new(params.clone(), &[]));
        }
        seats
    }

    #[test]
    fn the_structs_have_the_sizes_of_the_kernel() {
        assert_eq!((size_of::<Wish>(), size_of::<Answer>(), size_of::<Edit>()), (48, 32, 16));
    }

    #[test]
    fn each_sample_has_its_wish_and_its_cuts() {
        let mut asked = Asked::default();
        let biased = SeatParams {
            allowed_ids: vec![7, 3],
            min_tokens: 1,
            stop_ids: vec![5],
            logit_bias_ids: vec![9],
            logit_biases: vec![-2.0],
            top_logprobs: 4,
            temperature: 0.5,
            ..greedy()
        };
        let seats = seats(&[greedy(), biased]);
        let mut words = step_words(0, &[(0, 0, &[1, 2]), (1, 0, &[3, 4])], &[0, 1, 3]);
        words.targets = vec![8, PICK, PICK];
        assert!(asked.read(&words.parse(&limits()), &seats));
        let targets: Vec<i32> = asked.wishes.iter().map(|wish| wish.target).collect();
        assert_eq!(targets, [8, PICK, PICK]);
        assert_eq!(asked.starts, [[0; 5], [0; 5], [0, 2, 3, 4, 4]].concat());
        let ids: Vec<i32> = asked.edits.iter().map(|edit| edit.id).collect();
        assert_eq!((ids, asked.edits[3].x), (vec![7, 3, 5, 9], -2.0));
        let [_, _, last] = asked.wishes[..] else { panic!("three samples") };
        assert_eq!((last.scale, last.fallback, last.top, last.adjusted), (2.0, 3, 4, 1));
        assert_eq!(asked.most_top, 4);
    }

    #[test]
    fn picks_behind_drafts_are_asked_for_unless_edits_would_follow_from_them() {
        let mut asked = Asked::default();
        let step = step_words(0, &[(0, 0, &[1, 2, 3])], &[0, 1, 2]);
        let step = crate::testing::StepWords { targets: vec![PICK; 3], ..step }.parse(&limits());
        let warm = SeatParams { temperature: 1.0, ..greedy() };
        assert!(asked.read(&step, &seats(std::slice::from_ref(&warm))));
        let uniforms: Vec<f64> = asked.wishes.iter().map(|wish| wish.uniform).collect();
        assert_eq!(uniforms, [0, 1, 2].map(|index| philox::uniform(0, 0, index)));
        for params in [
            SeatParams { presence_penalty: 1.0, ..warm.clone() },
            SeatParams { bad_words: vec![vec![1, 2]], ..warm.clone() },
            SeatParams { min_tokens: 3, stop_ids: vec![1], ..warm.clone() },
            SeatParams { logit_bias_ids: vec![1], logit_biases: vec![1.0], ..warm },
        ] {
            assert!(!asked.read(&step, &seats(&[params])));
        }
    }
}
