//! Sampler state of running sequences. A sequence holds a *seat* from admission to its end; what must follow a token at
//! once (feeding the next step, stop ids, `max_tokens`, penalties, bad words) lives here, beside the sampler, so that two
//! steps can be queued.

use crate::error::{Failure, Result};
use crate::grammar::{Mask, Matching};
use crate::ops::sample::history::History;

/// How to pick tokens for one sequence.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct SeatParams {
    /// 0 = greedy.
    pub temperature: f64,
    /// Keep the k most probable; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set with at least this probability; 1 = all.
    pub top_p: f64,
    /// Drop tokens below this share of the most probable; 0 = none.
    pub min_p: f64,
    /// Low and high 32 bits of the seed.
    pub seed_low: u32,
    /// See `seed_low`.
    pub seed_high: u32,
    /// Which of a request's choices this is.
    pub choice: u32,
    /// Tokens already generated (after preemption); the next one has this output index.
    pub output_index: u32,
    /// Tokens that end the sequence (EOS among them unless ignored).
    pub stop_ids: Vec<i32>,
    /// Most tokens to generate in all.
    pub max_tokens: u32,
    /// None of `stop_ids` is picked before this many tokens.
    pub min_tokens: u32,
    /// Divides the logits above 0 of tokens in prompt or output, multiplies the others; 1 = off.
    pub repetition_penalty: f64,
    /// Taken from the logits of tokens in the output; 0 = off.
    pub presence_penalty: f64,
    /// Taken from the logits of tokens in the output, once for each time; 0 = off.
    pub frequency_penalty: f64,
    /// Tokens whose logits get `logit_biases` added.
    pub logit_bias_ids: Vec<i32>,
    /// One for each of `logit_bias_ids`.
    pub logit_biases: Vec<f64>,
    /// Only these are picked; empty = all.
    pub allowed_ids: Vec<i32>,
    /// Sequences of tokens of which none is completed in the output.
    pub bad_words: Vec<Vec<i32>>,
    /// How many of the most probable tokens are reported with each picked one; -1 = none, nor its rank.
    pub top_logprobs: i32,
    /// The same for samples with a target.
    pub prompt_logprobs: i32,
    /// Tokens of the seat's history that are prompt.
    pub prompt_length: u32,
}

impl Default for SeatParams {
    /// Greedy, without an end, all else off.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed_low: 0,
            seed_high: 0,
            choice: 0,
            output_index: 0,
            stop_ids: vec![],
            max_tokens: u32::MAX,
            min_tokens: 0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias_ids: vec![],
            logit_biases: vec![],
            allowed_ids: vec![],
            bad_words: vec![],
            top_logprobs: -1,
            prompt_logprobs: -1,
            prompt_length: 0,
        }
    }
}

fn bad<T>(field: &str, found: impl std::fmt::Display, allowed: impl std::fmt::Display) -> Result<T> {
    Err(Failure::internal(format!("{field} is {found}, allowed is {allowed}")))
}

fn ids(field: &str, ids: &[i32], vocab_size: usize) -> Result<()> {
    match ids.iter().find(|&&id| id < 0 || id as usize >= vocab_size) {
        Some(id) => bad(field, id, format_args!("0 to {}", vocab_size - 1)),
        None => Ok(()),
    }
}

impl SeatParams {
    /// Whether any of the penalties is on.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether picks depend on the tokens before.
    pub fn needs_history(&self) -> bool {
        self.penalizes() || self.bad_words.iter().any(|word| word.len() > 1)
    }

    /// Checks ranges; token ids are below `vocab_size`. `history` is the prompt and the output so far, needed only where
    /// [`Self::needs_history`] says so.
    ///
    /// # Errors
    /// `internal`, naming the field, what it holds and what is allowed.
    pub fn check(&self, history: &[i32], vocab_size: usize) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("topP", self.top_p, "above 0, up to 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("minP", self.min_p, "0 to 1");
        }
        ids("stopIds", &self.stop_ids, vocab_size)?;
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return bad("repetitionPenalty", self.repetition_penalty, "above 0");
        }
        for (field, penalty) in
            [("presencePenalty", self.presence_penalty), ("frequencyPenalty", self.frequency_penalty)]
        {
            if !(-2.0..=2.0).contains(&penalty) {
                return bad(field, penalty, "-2 to 2");
            }
        }
        ids("logitBiasIds", &self.logit_bias_ids, vocab_size)?;
        if self.logit_biases.len() != self.logit_bias_ids.len() {
            let (found, allowed) = (self.logit_biases.len(), self.logit_bias_ids.len());
            return bad("length of logitBiases", found, format_args!("{allowed}, that of logitBiasIds"));
        }
        if let Some(bias) = self.logit_biases.iter().find(|bias| !(-100.0..=100.0).contains(*bias)) {
            return bad("logitBiases", bias, "-100 to 100");
        }
        ids("allowedIds", &self.allowed_ids, vocab_size)?;
        for word in &self.bad_words {
            ids("badWords", word, vocab_size)?;
            if word.is_empty() {
                return bad("length of badWords", 0, "1 or more");
            }
        }
        for (field, count) in [("topLogprobs", self.top_logprobs), ("promptLogprobs", self.prompt_logprobs)] {
            if count < -1 || i64::from(count) > vocab_size as i64 {
                return bad(field, count, format_args!("-1 to {vocab_size}"));
            }
        }
        ids("history", history, vocab_size)?;
        let known = self.prompt_length as usize + self.output_index as usize;
        if self.needs_history() && history.len() != known {
            let found = history.len();
            return bad("length of history", found, format_args!("promptLength + outputIndex = {known}"));
        }
        Ok(())
    }
}

/// One sequence's state.
#[derive(Debug)]
pub struct Seat {
    /// As opened.
    pub params: SeatParams,
    /// Output index of the next token.
    pub output_index: u32,
    /// The token picked last, if any.
    pub last_token: Option<i32>,
    /// Ended: rows of this seat in later steps are surplus and sample nothing.
    pub frozen: bool,
    /// What penalties and bad words know of the tokens before.
    pub history: History,
    /// Where the output is in its grammar, if it has one.
    pub matching: Option<Matching>,
}

impl Seat {
    /// A sequence that starts, or goes on after `history` (see [`SeatParams::check`]).
    pub fn new(params: SeatParams, history: &[i32]) -> Self {
        let (output_index, history) = (params.output_index, History::new(&params, history));
        Self { params, output_index, last_token: None, frozen: false, history, matching: None }
    }

    /// Takes its place in a grammar.
    #[must_use]
    pub fn in_grammar(self, matching: Option<Matching>) -> Self {
        Self { matching, ..self }
    }

    /// Waits until it is known which tokens may come. False: the grammar has given up; the seat freezes.
    pub fn wait(&mut self) -> bool {
        let goes_on = self.matching.as_mut().is_none_or(Matching::wait);
        self.frozen |= !goes_on;
        goes_on
    }

    /// The tokens that may come, once they were waited for; `None` = all.
    pub fn mask(&self) -> Option<&Mask> {
        self.matching.as_ref().and_then(Matching::mask)
    }

    /// The tokens behind `token` of which the grammar leaves no choice, as far as they are known.
    pub fn forced_behind(&self, token: i32) -> Vec<i32> {
        self.matching.as_ref().map_or_else(Vec::new, |matching| matching.forced_behind(token).to_vec())
    }

    /// Records a picked token: advances the index, freezes at a stop id or at `max_tokens`. Answers the finish code of
    /// [`crate::backend::Sampled::finish`].
    pub fn advance(&mut self, token: i32) -> u8 {
        self.last_token = Some(token);
        self.output_index += 1;
        self.history.push(token);
        let finish = if self.params.stop_ids.contains(&token) {
            1
        } else if self.output_index >= self.params.max_tokens {
            2
        } else {
            0
        };
        self.frozen = finish != 0;
        if let Some(matching) = self.matching.as_mut().filter(|_| finish == 0) {
            matching.advance(token);
        }
        finish
    }
}

/// All seats; `None` = free.
#[derive(Debug, Default)]
pub struct Seats {
    seats: Vec<Option<Seat>>,
}

impl Seats {
    /// Room for `count` sequences.
    pub fn new(count: usize) -> Self {
        Self { seats: std::iter::repeat_with(|| None).take(count).collect() }
    }

    /// Starts a sequence on a seat, whatever sat there before.
    pub fn open(&mut self, index: usize, seat: Seat) {
        self.seats[index] = Some(seat);
    }

    /// The sequence on a seat.
    pub fn get(&self, index: usize) -> Option<&Seat> {
        self.seats.get(index).and_then(Option::as_ref)
    }

    /// The sequence on a seat, to advance it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Seat> {
        self.seats.get_mut(index).and_then(Option::as_mut)
    }

    /// All of them, for threads that advance different ones.
    pub fn all_mut(&mut self) -> &mut [Option<Seat>] {
        &mut self.seats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: usize = 50;

    fn message(params: &SeatParams, history: &[i32]) -> String {
        params.check(history, VOCABULARY).expect_err("refused").message
    }

    #[test]
    fn both_ends_of_every_range_are_allowed() {
        let ends = [
            SeatParams { top_p: f64::MIN_POSITIVE, min_p: 1.0, ..SeatParams::default() },
            SeatParams { stop_ids: vec![0, 49], allowed_ids: vec![0, 49], ..SeatParams::default() },
            SeatParams {
                logit_bias_ids: vec![0, 49],
                logit_biases: vec![-100.0, 100.0],
                ..SeatParams::default()
            },
            SeatParams { top_logprobs: 50, prompt_logprobs: 0, ..SeatParams::default() },
            SeatParams { bad_words: vec![vec![0], vec![49]], ..SeatParams::default() },
        ];
        for params in ends {
            params.check(&[], VOCABULARY).unwrap();
        }
        let penalties = [(f64::MIN_POSITIVE, -2.0, 2.0), (1e9, 2.0, -2.0)];
        for (repetition_penalty, presence_penalty, frequency_penalty) in penalties {
            let params = SeatParams {
                repetition_penalty,
                presence_penalty,
                frequency_penalty,
                prompt_length: 2,
                output_index: 1,
                ..SeatParams::default()
            };
            params.check(&[0, 49, 3], VOCABULARY).unwrap();
        }
    }

    #[test]
    fn what_is_out_of_range_is_named_with_what_is_allowed() {
        let default = SeatParams::default;
        for (params, with) in [
            (SeatParams { temperature: -0.1, ..default() }, "temperature is -0.1, allowed is 0 or more"),
            (SeatParams { temperature: f64::NAN, ..default() }, "temperature is NaN"),
            (SeatParams { top_p: 0.0, ..default() }, "topP is 0, allowed is above 0, up to 1"),
            (SeatParams { top_p: 1.1, ..default() }, "topP is 1.1"),
            (SeatParams { min_p: 1.5, ..default() }, "minP is 1.5, allowed is 0 to 1"),
            (SeatParams { stop_ids: vec![50], ..default() }, "stopIds is 50, allowed is 0 to 49"),
            (
                SeatParams { repetition_penalty: 0.0, ..default() },
                "repetitionPenalty is 0, allowed is above 0",
            ),
            (SeatParams { repetition_penalty: f64::INFINITY, ..default() }, "repetitionPenalty is inf"),
            (SeatParams { presence_penalty: 2.1, ..default() }, "presencePenalty is 2.1, allowed is -2 to 2"),
            (
                SeatParams { frequency_penalty: -2.1, ..default() },
                "frequencyPenalty is -2.1, allowed is -2 to 2",
            ),
            (
                SeatParams { logit_bias_ids: vec![-1], logit_biases: vec![0.0], ..default() },
                "logitBiasIds is -1, allowed is 0 to 49",
            ),
            (SeatParams { logit_bias_ids: vec![1], ..default() }, "length of logitBiases is 0, allowed is 1"),
            (
                SeatParams { logit_bias_ids: vec![1], logit_biases: vec![100.5], ..default() },
                "logitBiases is 100.5, allowed is -100 to 100",
            ),
            (
                SeatParams { logit_bias_ids: vec![1], logit_biases: vec![f64::NAN], ..default() },
                "logitBiases is NaN",
            ),
            (SeatParams { allowed_ids: vec![3, 50], ..default() }, "allowedIds is 50, allowed is 0 to 49"),
            (SeatParams { bad_words: vec![vec![1], vec![]], ..default() }, "length of badWords is 0"),
            (SeatParams { bad_words: vec![vec![1, -1]], ..default() }, "badWords is -1, allowed is 0 to 49"),
            (SeatParams { top_logprobs: 51, ..default() }, "topLogprobs is 51, allowed is -1 to 50"),
            (SeatParams { top_logprobs: -2, ..default() }, "topLogprobs is -2"),
            (SeatParams { prompt_logprobs: 51, ..default() }, "promptLogprobs is 51, allowed is -1 to 50"),
        ] {
            let message = message(&params, &[]);
            assert!(message.contains(with), "{message}\n  lacks: {with}");
        }
        assert!(message(&default(), &[50]).contains("history is 50"));
        let params = SeatParams { presence_penalty: 1.0, prompt_length: 2, output_index: 2, ..default() };
        let message = message(&params, &[1, 2, 3]);
        assert!(
            message.contains("length of history is 3, allowed is promptLength + outputIndex = 4"),
            "{message}"
        );
    }
}
