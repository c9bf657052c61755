//! A sequence's place in its grammar, beside its sampler.

use super::Grammar;
use super::mask::Mask;
use super::masks::{Answer, From, Known, Masks};
use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

/// It goes on as tokens are picked, and only then: a pick on a draft is made after the pick before it, so nothing is ever taken
/// back. What was preempted is opened again behind its output.
pub struct Matching {
    masks: Option<Masks>,
    place: Place,
}

enum Place {
    /// A thread works it out.
    Coming(Mutex<Receiver<Answer>>),
    Known(Box<Known>),
    Failed(String),
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.place {
            Place::Coming(_) => "coming",
            Place::Known(_) => "known",
            Place::Failed(error) => error,
        };
        f.debug_tuple("Matching").field(&state).finish()
    }
}

impl Matching {
    /// The place behind `output`.
    pub fn open(grammar: &Grammar, output: &[i32]) -> Self {
        let tokens = output.iter().map(|&token| token as u32).collect();
        let place = coming(&grammar.masks, From::Start(Arc::clone(&grammar.start)), tokens);
        Self { masks: Some(grammar.masks.clone()), place }
    }

    /// One that can pick nothing.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { masks: None, place: Place::Failed(error.into()) }
    }

    /// Waits until it is known what may come. False: the grammar has given up, and nothing can be picked.
    pub fn wait(&mut self) -> bool {
        if let Place::Coming(answer) = &mut self.place {
            let answer = answer.get_mut().unwrap_or_else(PoisonError::into_inner).recv();
            self.place = match answer {
                Ok(Ok(known)) => Place::Known(Box::new(known)),
                Ok(Err(error)) => Place::Failed(error),
                Err(_) => Place::Failed("the threads of the grammar have ended".into()),
            };
        }
        matches!(self.place, Place::Known(_))
    }

    /// What may come, once that was waited for.
    pub fn mask(&self) -> Option<&Mask> {
        match &self.place {
            Place::Known(known) => Some(&known.mask),
            _ => None,
        }
    }

    /// The tokens that surely come behind `token`, which comes next.
    pub fn forced_behind(&self, token: i32) -> &[i32] {
        match &self.place {
            Place::Known(known) if known.forced.first() == Some(&token) => &known.forced[1..],
            _ => &[],
        }
    }

    /// Goes on by a token; the next mask is worked out meanwhile.
    pub fn advance(&mut self, token: i32) {
        self.wait();
        let place = std::mem::replace(&mut self.place, Place::Failed(String::new()));
        self.place = match (place, &self.masks) {
            (Place::Known(known), Some(masks)) => {
                coming(masks, From::Place(known.matcher), vec![token as u32])
            }
            (place, _) => place,
        };
    }
}

fn coming(masks: &Masks, from: From, tokens: Vec<u32>) -> Place {
    Place::Coming(Mutex::new(masks.ask(from, tokens)))
}
