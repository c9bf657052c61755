//! The thread that owns a program and its device. Commands are done in the order in which they were given; an idle thread
//! sleeps in the queue. A step that fails, panics included, is a result with an error, and the thread goes on.

use crate::error::{Failure, Result};
use crate::program::{Program, ProgramInfo, ProgramSpec};
use crate::seats::{SeatParams, Seats};
use crate::step::{FROM_SEAT, Step};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a step came to.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// The engine's number of the step.
    pub step_id: i32,
    /// A token for each sampled position, -1 where the seat was frozen before; empty on failure.
    pub tokens: Vec<i32>,
    /// See [`crate::backend::Sampled::finish`].
    pub finish: Vec<u8>,
    /// See [`crate::backend::Sampled::logprob`].
    pub logprobs: Vec<f32>,
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

enum Command {
    OpenSeat(usize, SeatParams),
    Submit(Vec<i32>),
    Logits(Vec<i32>, Sender<Result<Vec<f32>>>),
    Stop,
}

/// Handle of the thread. Dropping it stops the thread without waiting.
pub struct Runner {
    queue: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
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
        let device = Device {
            seats: Seats::new(num_seats),
            program,
            on_result,
            stopping: Arc::clone(&stopping),
            last_end: None,
            was_empty: true,
        };
        let thread = std::thread::Builder::new()
            .name("kvengine-device".into())
            .spawn(move || device.serve(&commands))
            .map_err(|error| Failure::out_of_memory(format!("the device thread could not be started: {error}")))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { queue, thread, stopping, num_seats, vocab_size, info, description })
    }

    /// What came out of compiling.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    /// The tape and the memory plan as text.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Queues the start of a sequence on a seat.
    ///
    /// # Errors
    /// `internal`, naming the field and what is allowed.
    pub fn open_seat(&self, seat: usize, params: SeatParams) -> Result<()> {
        if seat >= self.num_seats {
            let most = self.num_seats - 1;
            return Err(Failure::internal(format!("seat is {seat}, allowed is 0 to {most}")));
        }
        params.check(self.vocab_size)?;
        self.send(Command::OpenSeat(seat, params))
    }

    /// Queues a step (layout in [`crate::step`]). Whatever is wrong with it comes back as its result.
    ///
    /// # Errors
    /// `internal` after [`Self::stop`].
    pub fn submit(&self, step: Vec<i32>) -> Result<()> {
        self.send(Command::Submit(step))
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
    on_result: OnResult,
    stopping: Arc<AtomicBool>,
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
                Command::OpenSeat(seat, params) => self.seats.open(seat, params),
                Command::Submit(words) => self.submit(&words),
                Command::Logits(words, reply) => {
                    let logits = self.guarded(|device| {
                        let step = device.resolve(&words)?;
                        device.program.logits(&step)
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
            let step = device.resolve(words)?;
            device.program.run(&step, &mut device.seats)
        });
        let end = Instant::now();
        self.last_end = Some(end);
        self.was_empty = false;
        let (sampled, error) = match sampled {
            Ok(sampled) => (sampled, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        (self.on_result)(StepResult {
            step_id: words.get(1).copied().unwrap_or(-1),
            tokens: sampled.iter().map(|s| s.token).collect(),
            finish: sampled.iter().map(|s| s.finish).collect(),
            logprobs: sampled.iter().map(|s| s.logprob).collect(),
            compute: end.duration_since(start),
            gap,
            error,
        });
    }

    /// Checks a step and fills in the tokens its seats picked last. An open seat that has picked none was in a step that
    /// failed: its sequence has ended, so the row is surplus and must not fail the step's other rows.
    fn resolve(&mut self, words: &[i32]) -> Result<Step> {
        let mut step = Step::parse(words, self.program.limits())?;
        for row in &step.rows {
            for token in &mut step.tokens[row.first..row.first + row.len] {
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
        Ok(step)
    }

    /// Runs a command's work; a panic is a failure like any other.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopped());
        }
        // What a panic leaves half done is this step's activations and KV: both belong to a step that is reported failed.
        catch_unwind(AssertUnwindSafe(|| work(self)))
            .unwrap_or_else(|payload| Err(Failure::internal(format!("panic: {}", text_of(payload.as_ref())))))
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests;
