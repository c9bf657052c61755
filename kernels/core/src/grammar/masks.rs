//! Threads that work out masks while a step's forward pass runs.

use super::mask::Mask;
use super::start::Start;
use llguidance::Matcher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// What a thread has worked out.
pub(super) type Answer = Result<Known, String>;

/// A place in a grammar.
pub(super) struct Known {
    pub(super) matcher: Box<Matcher>,
    /// What may come there.
    pub(super) mask: Mask,
    /// Where one token alone may come: that one, and those behind it that the grammar leaves no choice of either, as far as they are
    /// known without the tokens before them.
    pub(super) forced: Vec<i32>,
}

/// Where a place in a grammar is reckoned from.
pub(super) enum From {
    /// The grammar's beginning.
    Start(Arc<Start>),
    /// A place.
    Place(Box<Matcher>),
}

struct Job {
    from: From,
    tokens: Vec<u32>,
    to: Sender<Answer>,
}

/// The threads. They end when nothing holds their queue any more.
#[derive(Clone)]
pub(super) struct Masks {
    queue: Sender<Job>,
}

impl Masks {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name("kvengine-mask".into()).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Goes on from a place by some tokens and works out the mask there. An answer that never comes is an end of the channel.
    pub(super) fn ask(&self, from: From, tokens: Vec<u32>) -> Receiver<Answer> {
        let (to, answer) = mpsc::channel();
        // Threads that are gone leave the answer without a sender.
        let _gone = self.queue.send(Job { from, tokens, to });
        answer
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { from, tokens, to }) = job else { return };
        let answer = catch_unwind(AssertUnwindSafe(|| go_on(from, &tokens)))
            .unwrap_or_else(|_| Err("the grammar's matcher panicked".into()));
        // Nobody waits any more: nothing to do.
        let _gone = to.send(answer);
    }
}

/// The place behind some tokens, and the mask there: that of the end where the grammar is complete.
fn go_on(from: From, tokens: &[u32]) -> Answer {
    let mut matcher = match from {
        From::Start(start) => Box::new(start.matcher()),
        From::Place(matcher) => matcher,
    };
    matcher.consume_tokens(tokens).map_err(|error| short(&error))?;
    let mask = mask_at(&mut matcher)?;
    let forced = if mask.only().is_some() { matcher.compute_ff_tokens() } else { Vec::new() };
    let forced = forced.into_iter().map(|token| token as i32).collect();
    Ok(Known { matcher, mask, forced })
}

/// What may come at a place.
pub(super) fn mask_at(matcher: &mut Matcher) -> Result<Mask, String> {
    let bits = matcher.compute_mask_or_eos().map_err(|error| short(&error))?;
    Mask::new(bits.into()).ok_or_else(|| "the grammar allows no token here".into())
}

/// The crate adds the parser's state after the first line.
pub(super) fn short(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.split("<state>").next().unwrap_or_default().replace("<non-verbose/>", "");
    text.trim().to_owned()
}
