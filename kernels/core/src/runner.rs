//! The thread that owns a program and its device. Commands are done in the order in which they were given; an idle thread
//! sleeps in the queue. A step that fails, panics included, is a result with an error, and the thread goes on.

use crate::backend::Sampled;
use crate::error::{Failure, Result, panic_text};
use crate::grammar::{Grammar, Matching};
use crate::pages::Pages;
use crate::profile::Profile;
use crate::program::{Program, ProgramInfo, ProgramSpec};
use crate::seats::{Seat, SeatParams, Seats};
use crate::step::{FROM_SEAT, Step};
use crate::step_gate::StepGate;
use crate::transfer::{self, OnResults, TransferOptions, Transfers};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a step came to.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// The step's number, as its words have it.
    pub step_id: i32,
    /// One entry a sampled position; empty on failure.
    pub sampled: Vec<Sampled>,
    /// How long the step took.
    pub compute: Duration,
    /// How long the device did nothing between the step before and this one; `None` when it had nothing to do.
    pub gap: Option<Duration>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// Receives results, on the runner's thread, in the order of the steps.
pub type OnResult = Box<dyn FnMut(StepResult) + Send>;

/// Receives the logits of [`Runner::logits`].
pub type Logits = Receiver<Result<Vec<f32>>>;

/// Receives the profile of [`Runner::take_profile`].
pub type TakenProfile = Receiver<Result<Profile>>;

enum Command {
    OpenSeat(usize, Box<Seat>),
    Submit(Vec<i32>),
    Logits(Vec<i32>, Sender<Result<Vec<f32>>>),
    Profile(bool, Sender<Result<Profile>>),
    Stop,
}

/// Handle of the thread. Dropping it stops the thread without waiting.
pub struct Runner {
    queue: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
    steps: Arc<StepGate>,
    pages: Pages,
    num_seats: usize,
    vocab_size: usize,
    info: ProgramInfo,
    description: String,
}

impl Runner {
    /// Compiles the program on the calling thread, then gives it to a thread of its own.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn create(spec: &ProgramSpec, on_result: OnResult) -> Result<Self> {
        Self::start(Program::compile(spec)?, on_result)
    }

    /// Starts the thread of a compiled program.
    ///
    /// # Errors
    /// `out_of_memory` when the system gives no thread.
    pub fn start(program: Program, on_result: OnResult) -> Result<Self> {
        let (queue, commands) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let info = program.info().clone();
        let description = program.description().to_owned();
        let (num_seats, vocab_size) = (program.limits().max_rows, program.limits().vocab_size);
        let (steps, pages) = (Arc::default(), program.pages().clone());
        let device = Device {
            seats: Seats::new(num_seats),
            step: Step::default(),
            program,
            on_result,
            stopping: Arc::clone(&stopping),
            steps: Arc::clone(&steps),
            last_end: None,
            was_empty: true,
        };
        let thread = std::thread::Builder::new()
            .name("kvengine-device".into())
            .spawn(move || device.serve(&commands))
            .map_err(|error| {
                Failure::out_of_memory(format!("the device thread could not be started: {error}"))
            })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { queue, thread, stopping, steps, pages, num_seats, vocab_size, info, description })
    }

    /// What came out of compiling.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    /// The tape and the memory plan as text.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Queues the start of a sequence on a seat. `history` is its prompt and its output so far, where the parameters need
    /// them ([`SeatParams::needs_history`]) or the output follows a grammar.
    ///
    /// # Errors
    /// `internal`, naming the field and what is allowed.
    pub fn open_seat(
        &self,
        seat: usize,
        params: SeatParams,
        history: &[i32],
        grammar: Option<&Grammar>,
    ) -> Result<()> {
        if seat >= self.num_seats {
            let most = self.num_seats - 1;
            return Err(Failure::internal(format!("seat is {seat}, allowed is 0 to {most}")));
        }
        params.check(history, self.vocab_size)?;
        let matching = grammar.map(|grammar| self.matching(&params, history, grammar)).transpose()?;
        // Counted here: the device thread has steps waiting.
        self.send(Command::OpenSeat(seat, Box::new(Seat::new(params, history).in_grammar(matching))))
    }

    /// The place of a sequence in its grammar.
    fn matching(&self, params: &SeatParams, history: &[i32], grammar: &Grammar) -> Result<Matching> {
        let (size, width) = (grammar.vocab_size(), self.vocab_size);
        if size > width {
            return Err(Failure::internal(format!(
                "the grammar is for {size} tokens, the model has {width}"
            )));
        }
        let (known, prompt) = (history.len(), params.prompt_length as usize);
        match history.get(prompt..) {
            Some(output) if output.len() == params.output_index as usize => {
                Ok(Matching::open(grammar, output))
            }
            _ => Err(Failure::internal(format!(
                "length of history is {known}, allowed is promptLength + outputIndex = {prompt} + {}",
                params.output_index
            ))),
        }
    }

    /// Queues a step (layout in [`crate::step`]). Whatever is wrong with it comes back as its result.
    ///
    /// # Errors
    /// `internal` after [`Self::stop`].
    pub fn submit(&self, step: Vec<i32>) -> Result<()> {
        self.steps.submitted();
        self.send(Command::Submit(step)).inspect_err(|_| self.steps.withdrawn())
    }

    /// Queues a step of which only the logits of its sampled positions are wanted, `[samples, vocabulary]`; no seat
    /// advances. For tests and measurement.
    ///
    /// # Errors
    /// `internal` after [`Self::stop`].
    pub fn logits(&self, step: Vec<i32>) -> Result<Logits> {
        let (reply, logits) = mpsc::channel();
        self.send(Command::Logits(step, reply))?;
        Ok(logits)
    }

    /// Queues the taking of what ops have cost in the steps since the last time, where it was counted; `on`: whether it is from
    /// there on. For measurement.
    ///
    /// # Errors
    /// `internal` after [`Self::stop`].
    pub fn take_profile(&self, on: bool) -> Result<TakenProfile> {
        let (reply, profile) = mpsc::channel();
        self.send(Command::Profile(on, reply))?;
        Ok(profile)
    }

    /// How many pages a host pool could have now.
    ///
    /// # Errors
    /// `internal` when the system does not say how much memory there is.
    pub fn host_pages_that_fit(&self) -> Result<u64> {
        transfer::host_pages_that_fit(&self.pages)
    }

    /// Opens a host pool and starts the threads that copy between it and the KV blocks. Of several that are open at a time only
    /// the last one learns of steps.
    ///
    /// # Errors
    /// As [`Transfers::open`].
    pub fn open_transfers(&self, options: &TransferOptions, on_results: OnResults) -> Result<Transfers> {
        Transfers::open(self.pages.clone(), &self.steps, options, on_results)
    }

    /// Lets the step under way end, answers the queued ones with an error, and ends the thread. The handle, to be joined
    /// where waiting is allowed, is given once.
    pub fn stop(&self) -> Option<JoinHandle<()>> {
        self.stopping.store(true, Ordering::Release);
        // A thread that has ended takes no command, and needs none.
        let _ended = self.queue.send(Command::Stop);
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn send(&self, command: Command) -> Result<()> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopped());
        }
        self.queue.send(command).map_err(|_| stopped())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

fn stopped() -> Failure {
    Failure::internal("the runner was stopped")
}

/// What the thread owns.
struct Device {
    program: Program,
    seats: Seats,
    /// The step under way; its memory is used again.
    step: Step,
    on_result: OnResult,
    stopping: Arc<AtomicBool>,
    steps: Arc<StepGate>,
    last_end: Option<Instant>,
    /// Whether the queue ran dry since the last step.
    was_empty: bool,
}

impl Device {
    fn serve(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    self.was_empty = true;
                    let Ok(command) = commands.recv() else { return };
                    command
                }
            };
            match command {
                Command::Stop => return,
                Command::OpenSeat(index, seat) => self.seats.open(index, *seat),
                Command::Submit(words) => self.submit(&words),
                Command::Profile(on, reply) => {
                    // Nobody waits any more: nothing to do.
                    let _gone = reply.send(self.program.take_profile(on));
                }
                Command::Logits(words, reply) => {
                    let logits = self.guarded(|device| {
                        device.resolve(&words)?;
                        device.program.logits(&device.step)
                    });
                    self.was_empty = true;
                    // Nobody waits any more: nothing to do.
                    let _gone = reply.send(logits);
                }
            }
        }
    }

    fn submit(&mut self, words: &[i32]) {
        let start = Instant::now();
        let gap = self.last_end.filter(|_| !self.was_empty).map(|end| start.duration_since(end));
        let sampled = self.guarded(|device| {
            device.resolve(words)?;
            device.steps.begin(&device.step, device.program.limits())?;
            device.program.run(&device.step, &mut device.seats)
        });
        let end = Instant::now();
        self.last_end = Some(end);
        self.was_empty = false;
        self.program.count_step(end.duration_since(start), gap.unwrap_or_default());
        let (sampled, error) = match sampled {
            Ok(sampled) => (sampled, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let step_id = words.get(1).copied().unwrap_or(-1);
        // Before the result, so that who has it can count on the flights that wait for the step.
        self.steps.finish(step_id);
        (self.on_result)(StepResult { step_id, sampled, compute: end.duration_since(start), gap, error });
        self.steps.tell_news();
    }

    /// Checks a step and fills in the tokens its seats picked last. An open seat that has picked none was in a step that
    /// failed: its sequence has ended, so the row is surplus and must not fail the step's other rows.
    fn resolve(&mut self, words: &[i32]) -> Result<()> {
        self.step.read(words, self.program.limits())?;
        let Step { rows, tokens, .. } = &mut self.step;
        for row in rows {
            for token in &mut tokens[row.first..row.first + row.len] {
                if *token == FROM_SEAT {
                    let seat = self
                        .seats
                        .get_mut(row.seat)
                        .ok_or_else(|| Failure::internal(format!("step: seat {} is not open", row.seat)))?;
                    seat.frozen |= seat.last_token.is_none();
                    *token = seat.last_token.unwrap_or(0);
                }
            }
        }
        Ok(())
    }

    /// Runs a command's work; a panic is a failure like any other.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopped());
        }
        // What a panic leaves half done is this step's activations and KV: both belong to a step that is reported failed.
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|payload| {
            Err(Failure::internal(format!("panic: {}", panic_text(payload.as_ref()))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::testing::{TinyModel, greedy, step_words};

    /// A runner on the tiny model whose results arrive in a channel.
    fn start(model: &TinyModel) -> (Runner, Receiver<StepResult>) {
        let (send, results) = mpsc::channel();
        let runner = Runner::create(&model.spec, Box::new(move |result| send.send(result).unwrap())).unwrap();
        (runner, results)
    }

    fn stop(runner: &Runner) {
        runner.stop().unwrap().join().unwrap();
    }

    /// Tokens of a prompt continued one step at a time, each step submitted before the result of the one before.
    fn generate(model: &TinyModel, params: SeatParams, steps: usize) -> Vec<StepResult> {
        let (runner, results) = start(model);
        runner.open_seat(2, params, &[], None).unwrap();
        let prompt = [5, 17, 40];
        runner.submit(step_words(0, &[(2, 0, &prompt)], &[2]).words()).unwrap();
        for i in 1..steps {
            let words = step_words(i as i32, &[(2, prompt.len() + i - 1, &[FROM_SEAT])], &[0]).words();
            runner.submit(words).unwrap();
        }
        let results = (0..steps).map(|_| results.recv().unwrap()).collect();
        stop(&runner);
        results
    }

    #[test]
    fn queued_steps_take_the_token_that_their_seat_picked_last() {
        let model = TinyModel::new("reference", DType::F32);
        let queued = generate(&model, greedy(), 6);
        assert!(
            queued.iter().enumerate().all(|(i, result)| result.error.is_none() && result.step_id == i as i32)
        );
        let picked: Vec<i32> = queued.iter().map(|result| result.sampled[0].token).collect();

        let (runner, results) = start(&model);
        runner.open_seat(0, greedy(), &[], None).unwrap();
        let mut tokens = vec![5, 17, 40];
        for expected in picked {
            runner.submit(step_words(0, &[(0, 0, &tokens)], &[tokens.len() - 1]).words()).unwrap();
            let result = results.recv().unwrap();
            assert_eq!(result.sampled[0].token, expected);
            tokens.push(expected);
        }
        stop(&runner);
    }

    #[test]
    fn a_seat_freezes_at_max_tokens_and_its_surplus_rows_sample_nothing() {
        let model = TinyModel::new("reference", DType::F32);
        let results = generate(&model, SeatParams { max_tokens: 2, ..greedy() }, 4);
        let finish: Vec<u8> = results.iter().map(|result| result.sampled[0].finish).collect();
        assert_eq!(finish, [0, 2, 0, 0]);
        assert!(results[1].sampled[0].token >= 0);
        assert_eq!((results[2].sampled[0].token, results[3].sampled[0].token), (-1, -1));
    }

    #[test]
    fn a_seat_freezes_at_a_stop_id() {
        let model = TinyModel::new("reference", DType::F32);
        let first = generate(&model, greedy(), 1)[0].sampled[0].token;
        let results = generate(&model, SeatParams { stop_ids: vec![first], max_tokens: 1, ..greedy() }, 2);
        assert_eq!((results[0].sampled[0].token, results[0].sampled[0].finish), (first, 1));
        assert_eq!(results[1].sampled[0].token, -1);
    }

    #[test]
    fn a_bad_step_is_a_result_with_an_error_and_the_next_one_runs() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, results) = start(&model);
        runner.open_seat(0, greedy(), &[], None).unwrap();
        for (words, with) in [
            (vec![], "header"),
            (vec![1, 42, 0], "header"),
            (step_words(7, &[(1, 0, &[FROM_SEAT])], &[0]).words(), "seat 1 is not open"),
        ] {
            let id = words.get(1).copied().unwrap_or(-1);
            runner.submit(words).unwrap();
            let result = results.recv().unwrap();
            assert_eq!(result.step_id, id);
            assert!(result.sampled.is_empty());
            let failure = result.error.expect("an error");
            assert!(failure.message.contains(with), "{failure}");
        }
        runner.submit(step_words(8, &[(0, 0, &[1])], &[0]).words()).unwrap();
        assert!(results.recv().unwrap().error.is_none());
        stop(&runner);
    }

    #[test]
    fn a_row_that_waits_for_a_token_of_a_failed_step_freezes_its_seat() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, results) = start(&model);
        runner.open_seat(0, greedy(), &[], None).unwrap();
        for tokens in [&[FROM_SEAT], &[1]] {
            runner.submit(step_words(7, &[(0, 3, tokens)], &[0]).words()).unwrap();
            let result = results.recv().unwrap();
            assert!(result.error.is_none());
            assert_eq!((result.sampled[0].token, result.sampled[0].finish), (-1, 0));
        }
        stop(&runner);
    }

    #[test]
    fn a_panic_in_a_step_is_its_error() {
        let model = TinyModel::new("reference", DType::F32);
        let program = Program::compile(&model.spec).unwrap();
        let mut device = Device {
            seats: Seats::new(1),
            step: Step::default(),
            program,
            on_result: Box::new(|_| ()),
            stopping: Arc::default(),
            steps: Arc::default(),
            last_end: None,
            was_empty: true,
        };
        let failure = device.guarded(|_| -> Result<()> { panic!("number {}", 3) }).unwrap_err();
        assert_eq!(failure.message, "panic: number 3");
        assert!(device.guarded(|_| Ok(())).is_ok());
    }

    #[test]
    fn rows_of_a_seat_that_was_never_opened_sample_nothing() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, results) = start(&model);
        runner.submit(step_words(0, &[(3, 0, &[1, 2])], &[1]).words()).unwrap();
        assert_eq!(results.recv().unwrap().sampled, [Sampled::NONE]);
        stop(&runner);
    }

    #[test]
    fn a_reopened_seat_starts_afresh_in_queue_order() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, results) = start(&model);
        for _ in 0..2 {
            runner.open_seat(0, SeatParams { max_tokens: 1, ..greedy() }, &[], None).unwrap();
            runner.submit(step_words(0, &[(0, 0, &[1, 2])], &[1]).words()).unwrap();
        }
        let (first, second) = (results.recv().unwrap(), results.recv().unwrap());
        assert_eq!(first.sampled, second.sampled);
        assert_eq!(second.sampled[0].finish, 2);
        stop(&runner);
    }

    #[test]
    fn seat_parameters_out_of_range_are_refused_by_name() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, _results) = start(&model);
        for (seat, params, with) in [
            (4, greedy(), "seat is 4, allowed is 0 to 3"),
            (0, SeatParams { stop_ids: vec![96], ..greedy() }, "stopIds is 96, allowed is 0 to 95"),
            (
                0,
                SeatParams { frequency_penalty: 1.0, prompt_length: 2, ..greedy() },
                "length of history is 0",
            ),
        ] {
            let failure = runner.open_seat(seat, params, &[], None).unwrap_err();
            assert!(failure.message.contains(with), "{failure}");
        }
        stop(&runner);
    }

    #[test]
    fn a_gap_is_measured_between_queued_steps_only() {
        let model = TinyModel::new("reference", DType::F32);
        // The first result is delivered only when the second step is queued, so the queue is not empty then.
        let (go, wait) = mpsc::channel::<()>();
        let (send, results) = mpsc::channel();
        let mut first = true;
        let deliver = move |result: StepResult| {
            if std::mem::take(&mut first) {
                wait.recv().unwrap();
            }
            send.send(result).unwrap();
        };
        let runner = Runner::create(&model.spec, Box::new(deliver)).unwrap();
        runner.submit(step_words(0, &[(0, 0, &[1])], &[]).words()).unwrap();
        runner.submit(step_words(1, &[(0, 0, &[1])], &[]).words()).unwrap();
        go.send(()).unwrap();
        assert_eq!(results.recv().unwrap().gap, None);
        assert!(results.recv().unwrap().gap.is_some());
        stop(&runner);
    }

    #[test]
    fn stopping_answers_what_is_queued_and_refuses_what_comes() {
        let model = TinyModel::new("reference", DType::F32);
        let (entered, has_entered) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let (send, results) = mpsc::channel();
        let mut first = true;
        let deliver = move |result: StepResult| {
            if std::mem::take(&mut first) {
                entered.send(()).unwrap();
                wait.recv().unwrap();
            }
            send.send(result).unwrap();
        };
        let runner = Runner::create(&model.spec, Box::new(deliver)).unwrap();
        for id in 0..2 {
            runner.submit(step_words(id, &[(0, 0, &[1])], &[]).words()).unwrap();
        }
        let logits = runner.logits(step_words(2, &[(0, 0, &[1])], &[0]).words()).unwrap();
        has_entered.recv().unwrap();
        let thread = runner.stop().unwrap();
        go.send(()).unwrap();
        thread.join().unwrap();
        assert!(results.recv().unwrap().error.is_none());
        assert_eq!(results.recv().unwrap().error.unwrap().message, "the runner was stopped");
        assert!(logits.recv().unwrap().is_err());
        assert!(runner.submit(vec![]).is_err());
        assert!(runner.stop().is_none());
    }

    #[test]
    fn logits_leave_the_seats_alone() {
        let model = TinyModel::new("reference", DType::F32);
        let (runner, results) = start(&model);
        runner.open_seat(0, greedy(), &[], None).unwrap();
        runner.submit(step_words(0, &[(0, 0, &[5, 17, 40])], &[2]).words()).unwrap();
        let token = results.recv().unwrap().sampled[0].token;
        let logits = runner.logits(step_words(1, &[(0, 0, &[5, 17, 40])], &[2]).words()).unwrap();
        let logits = logits.recv().unwrap().unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(best as i32, token);
        runner.submit(step_words(2, &[(0, 3, &[FROM_SEAT])], &[0]).words()).unwrap();
        assert!(results.recv().unwrap().error.is_none());
        stop(&runner);
    }
}
