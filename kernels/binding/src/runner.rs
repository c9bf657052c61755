//! The runner: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]

use crate::error::to_js;
use crate::grammar::Grammar;
use kvengine_core::backend::Sampled;
use kvengine_core::runner as core;
use kvengine_core::seats::SeatParams;
use napi::bindgen_prelude::{AsyncTask, Float32Array, Function, Int32Array, Uint8Array};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status, Task};
use napi_derive::napi;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use kvengine_core::profile::Profile;
pub use kvengine_core::program::{ProgramInfo, ProgramSpec};

/// Why a step failed.
#[napi(object)]
pub struct StepError {
    /// As `KvEngineError` has it.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a step came to.
#[napi(object)]
pub struct StepResult {
    /// The engine's number of the step.
    pub step_id: i32,
    /// The token picked at each sampled position; -1 = none: it has a target, the seat was frozen before, or a draft before
    /// it was wrong. Empty on failure, as all arrays.
    pub tokens: Int32Array,
    /// Why the seat froze with the token: 0 it did not, 1 a stop id, 2 `maxTokens`.
    pub finish: Uint8Array,
    /// Natural log of the probability of each picked token or target, before anything that acts on picks; 0 where
    /// the seat of a pick did not ask.
    pub logprobs: Float32Array,
    /// Place of that token among all by probability, from 1; 0 where its seat did not ask. Empty when no seat did.
    pub ranks: Int32Array,
    /// The most probable tokens at sample `i` are `topIds[topStart[i]..topStart[i + 1]]`. Empty when no seat asked.
    pub top_start: Int32Array,
    /// See `topStart`.
    pub top_ids: Int32Array,
    /// Natural log of the probability of each of `topIds`.
    pub top_logprobs: Float32Array,
    /// Behind the token of sample `i` surely come `forcedIds[forcedStart[i]..forcedStart[i + 1]]`: its grammar leaves no choice. Empty
    /// when there are none.
    pub forced_start: Int32Array,
    /// See `forcedStart`.
    pub forced_ids: Int32Array,
    /// How long the step took, in microseconds.
    pub compute_micros: f64,
    /// Idle time between the end of the step before and the start of this one; -1 when the queue was empty.
    pub gap_micros: f64,
    /// Why it failed.
    pub error: Option<StepError>,
}

type OnResult = ThreadsafeFunction<StepResult, (), StepResult, Status, false>;

/// A compiled program on a thread of its own.
#[napi]
pub struct Runner {
    pub(crate) core: Arc<core::Runner>,
}

#[napi]
impl Runner {
    /// Compiles the program on a native thread (checks, plans, repacks weights), then starts its thread. `onResult` is
    /// called once for each submitted step, in order; it keeps the process alive until `stop`.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(ts_return_type = "Promise<Runner>")]
    pub fn create(
        spec: ProgramSpec,
        #[napi(ts_arg_type = "(result: StepResult) => void")] on_result: Function<'_, StepResult, ()>,
    ) -> napi::Result<AsyncTask<Create>> {
        let on_result: OnResult = on_result.build_threadsafe_function().build()?;
        Ok(AsyncTask::new(Create { spec, on_result: Some(on_result) }))
    }

    /// What came out of compiling.
    #[napi]
    pub fn info(&self) -> ProgramInfo {
        self.core.info().clone()
    }

    /// The tape and the memory plan as text.
    #[napi]
    pub fn describe(&self) -> String {
        self.core.description().to_owned()
    }

    /// Queues the start of a sequence on a seat, in order with submitted steps. `history` is its prompt and its output so
    /// far where penalties or bad words are on or the output follows a grammar, else it may be empty.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn open_seat(
        &self,
        seat: u32,
        params: SeatParams,
        history: &[i32],
        grammar: Option<&Grammar>,
    ) -> napi::Result<()> {
        let grammar = grammar.map(|grammar| &*grammar.core);
        self.core.open_seat(seat as usize, params, history, grammar).map_err(to_js)
    }

    /// Copies and queues a step (layout: `kernels/core/src/step.rs`). What is wrong with it comes back as its result.
    ///
    /// # Errors
    /// The core's after `stop`, as JSON `{code, message}` in the message.
    #[napi]
    pub fn submit(&self, step: &[i32]) -> napi::Result<()> {
        self.core.submit(step.to_vec()).map_err(to_js)
    }

    /// Queues a step of which only the logits of its sampled positions are wanted, `[samples, vocabulary]`; no seat
    /// advances. For tests and measurement.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(ts_return_type = "Promise<Float32Array>")]
    pub fn logits(&self, step: &[i32]) -> napi::Result<AsyncTask<Logits>> {
        let logits = self.core.logits(step.to_vec()).map_err(to_js)?;
        Ok(AsyncTask::new(Logits { logits }))
    }

    /// What ops have cost in the steps since this was called last, where it was counted; `on`: whether it is from here on. For
    /// measurement.
    ///
    /// # Errors
    /// The core's after `stop`, as JSON `{code, message}` in the message.
    #[napi(ts_return_type = "Promise<Profile>")]
    pub fn take_profile(&self, on: bool) -> napi::Result<AsyncTask<TakeProfile>> {
        let profile = self.core.take_profile(on).map_err(to_js)?;
        Ok(AsyncTask::new(TakeProfile { profile }))
    }

    /// Lets the step under way end, answers queued steps with an error, ends the thread and frees everything.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn stop(&self) -> AsyncTask<Stop> {
        AsyncTask::new(Stop { thread: self.core.stop() })
    }
}

/// Compiles on a native thread.
pub struct Create {
    spec: ProgramSpec,
    on_result: Option<OnResult>,
}

impl Task for Create {
    type Output = core::Runner;
    type JsValue = Runner;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let Some(on_result) = self.on_result.take() else {
            return Err(napi::Error::from_reason("a task is computed once"));
        };
        let deliver = move |result: core::StepResult| {
            // Refused only when JavaScript is being torn down: nobody is left to tell.
            let _closing = on_result.call(result_to_js(result), ThreadsafeFunctionCallMode::NonBlocking);
        };
        core::Runner::create(&self.spec, Box::new(deliver)).map_err(to_js)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(Runner { core: Arc::new(output) })
    }
}

/// Waits for logits on a native thread.
pub struct Logits {
    logits: core::Logits,
}

impl Task for Logits {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        self.logits.recv().map_err(stopped)?.map_err(to_js)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(output.into())
    }
}

/// Waits for a profile on a native thread.
pub struct TakeProfile {
    profile: core::TakenProfile,
}

impl Task for TakeProfile {
    type Output = Profile;
    type JsValue = Profile;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        self.profile.recv().map_err(stopped)?.map_err(to_js)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(output)
    }
}

/// The thread has ended without an answer.
fn stopped(_: std::sync::mpsc::RecvError) -> napi::Error {
    to_js(kvengine_core::error::Failure::internal("the runner was stopped"))
}

/// Joins the thread on a native thread.
pub struct Stop {
    thread: Option<JoinHandle<()>>,
}

impl Task for Stop {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<Self::Output> {
        // The thread turns panics into results; one outside a step has nothing left to report to.
        self.thread.take().map_or(Ok(()), |thread| {
            thread
                .join()
                .map_err(|_| to_js(kvengine_core::error::Failure::internal("the device thread panicked")))
        })
    }

    fn resolve(&mut self, _env: Env, _output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(())
    }
}

fn result_to_js(result: core::StepResult) -> StepResult {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    let sampled = &result.sampled;
    let mut tops = Tops::default();
    if sampled.iter().any(|s| s.rank > 0) {
        tops.collect(sampled);
    }
    let (mut forced_start, mut forced_ids) = (Vec::new(), Vec::new());
    if sampled.iter().any(|s| !s.forced.is_empty()) {
        forced_start.push(0);
        for Sampled { forced, .. } in sampled {
            forced_ids.extend_from_slice(forced);
            forced_start.push(forced_ids.len() as i32);
        }
    }
    StepResult {
        step_id: result.step_id,
        tokens: sampled.iter().map(|s| s.token).collect::<Vec<_>>().into(),
        finish: sampled.iter().map(|s| s.finish).collect::<Vec<_>>().into(),
        logprobs: sampled.iter().map(|s| s.logprob).collect::<Vec<_>>().into(),
        ranks: tops.ranks.into(),
        top_start: tops.start.into(),
        top_ids: tops.ids.into(),
        top_logprobs: tops.logprobs.into(),
        forced_start: forced_start.into(),
        forced_ids: forced_ids.into(),
        compute_micros: micros(result.compute),
        gap_micros: result.gap.map_or(-1.0, micros),
        error: result
            .error
            .map(|failure| StepError { code: failure.code.as_str().to_owned(), message: failure.message }),
    }
}

/// Ranks and lists of a step as flat arrays.
#[derive(Default)]
struct Tops {
    ranks: Vec<i32>,
    start: Vec<i32>,
    ids: Vec<i32>,
    logprobs: Vec<f32>,
}

impl Tops {
    fn collect(&mut self, sampled: &[Sampled]) {
        self.start.push(0);
        for Sampled { rank, top, .. } in sampled {
            self.ranks.push(*rank as i32);
            self.ids.extend(top.iter().map(|top| top.token));
            self.logprobs.extend(top.iter().map(|top| top.logprob));
            self.start.push(self.ids.len() as i32);
        }
    }
}
