//! Sampler state of running sequences. A sequence holds a *seat* from admission to its end; what must follow a token at
//! once (feeding the next step, stop ids, `max_tokens`) lives here, beside the sampler, so that two steps can be queued.

use crate::error::{Failure, Result};

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
}

impl SeatParams {
    /// Checks ranges; `vocab_size` bounds the stop ids.
    ///
    /// # Errors
    /// `internal`, naming the field, what it holds and what is allowed.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        let bad = |field: &str, found: &dyn std::fmt::Display, allowed: &str| {
            Err(Failure::internal(format!("{field} is {found}, allowed is {allowed}")))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", &self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("topP", &self.top_p, "above 0, up to 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("minP", &self.min_p, "0 to 1");
        }
        if let Some(id) = self.stop_ids.iter().find(|&&id| id < 0 || id as usize >= vocab_size) {
            return bad("stopIds", id, &format!("0 to {}", vocab_size - 1));
        }
        Ok(())
    }
}

/// One sequence's state.
#[derive(Clone, Debug)]
pub struct Seat {
    /// As opened.
    pub params: SeatParams,
    /// Output index of the next token.
    pub output_index: u32,
    /// The token picked last, if any.
    pub last_token: Option<i32>,
    /// Ended: rows of this seat in later steps are surplus and sample nothing.
    pub frozen: bool,
}

/// All seats; `None` = free.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    seats: Vec<Option<Seat>>,
}

impl Seats {
    /// Room for `count` sequences.
    pub fn new(count: usize) -> Self {
        Self { seats: vec![None; count] }
    }

    /// Starts a sequence on a seat, whatever sat there before.
    pub fn open(&mut self, index: usize, params: SeatParams) {
        let output_index = params.output_index;
        self.seats[index] = Some(Seat { params, output_index, last_token: None, frozen: false });
    }

    /// The sequence on a seat.
    pub fn get(&self, index: usize) -> Option<&Seat> {
        self.seats.get(index).and_then(Option::as_ref)
    }

    /// The sequence on a seat, to advance it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Seat> {
        self.seats.get_mut(index).and_then(Option::as_mut)
    }

    /// Records a picked token: advances the index, freezes at a stop id or at `max_tokens`. Answers the finish code of
    /// [`crate::backend::Sampled::finish`].
    pub fn advance(&mut self, index: usize, token: i32) -> u8 {
        let Some(seat) = self.get_mut(index) else { return 0 };
        seat.last_token = Some(token);
        seat.output_index += 1;
        let finish = if seat.params.stop_ids.contains(&token) {
            1
        } else if seat.output_index >= seat.params.max_tokens {
            2
        } else {
            0
        };
        seat.frozen = finish != 0;
        finish
    }
}
