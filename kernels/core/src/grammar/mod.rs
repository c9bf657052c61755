//! Structured output: which tokens may come next, so that an answer is one of a grammar (the `llguidance` crate).
//!
//! A grammar is compiled once, off the threads that serve. Each sequence that follows it has a [`Matching`] on its seat; masks are
//! worked out on threads of their own while the forward pass runs and taken at the sampler. What may come is a function of the grammar
//! and of the output so far, and of nothing else.

mod mask;
mod masks;
mod matching;
mod start;
mod vocabulary;

#[cfg(test)]
mod tests;

use crate::error::{Failure, Result};
use crate::tokenizer::Tokenizer;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use masks::{Masks, mask_at, short};
use start::Start;
use std::sync::{Arc, Mutex, PoisonError};
use vocabulary::Vocabulary;

pub use mask::Mask;
pub use matching::Matching;

/// What a grammar may cost. Its text is bounded before (`engine/server/structured`).
fn limits() -> ParserLimits {
    ParserLimits {
        // Symbols of its rules: a schema of some hundred kilobytes.
        max_grammar_size: 200_000,
        // About 20 ms.
        initial_lexer_fuel: 1_000_000,
        // 1 to 2 kB each, for each sequence at worst.
        max_lexer_states: 50_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Compiles grammars for one vocabulary.
pub struct Compiler {
    /// The crate counts in it; it is not taken for long.
    factory: Mutex<ParserFactory>,
    masks: Masks,
    vocab_size: usize,
}

/// A compiled grammar.
pub struct Grammar {
    start: Arc<Start>,
    masks: Masks,
    vocab_size: usize,
    warnings: Vec<String>,
}

impl Compiler {
    /// Takes in a vocabulary: some hundred milliseconds for a large one.
    ///
    /// # Errors
    /// `unsupported` where no token ends an answer; `out_of_memory` when the system gives no thread.
    pub fn new(tokenizer: Arc<Tokenizer>, end_ids: &[u32]) -> Result<Self> {
        let vocab_size = tokenizer.vocab_size();
        let env: TokEnv = Arc::new(Vocabulary::new(tokenizer, end_ids)?);
        let mut factory = ParserFactory::new(
            &env,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| Failure::internal(format!("grammars: {}", short(&error))))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        // Half of them at most: the forward pass runs meanwhile.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, 8);
        let masks = Masks::start(threads).map_err(|error| {
            Failure::out_of_memory(format!("the threads for masks could not be started: {error}"))
        })?;
        Ok(Self { factory: Mutex::new(factory), masks, vocab_size })
    }

    /// Compiles a text in the crate's Lark, in which JSON Schema (`%json`) has its place too.
    ///
    /// # Errors
    /// `invalid_request` with what is wrong with it, what is not supported, or which limit it breaks.
    pub fn compile(&self, text: String) -> Result<Grammar> {
        let refused = |error: String| Failure::invalid_request(error);
        let parser = {
            let factory = self.factory.lock().unwrap_or_else(PoisonError::into_inner);
            factory.create_parser(TopLevelGrammar::from_lark(text))
        };
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(refused(short(&error)));
        }
        let warnings = matcher.grammar_warnings();
        // On a copy: what a sequence starts from has no history.
        mask_at(&mut matcher.deep_clone()).map_err(refused)?;
        let start = Arc::new(Start::new(matcher));
        let (masks, vocab_size) = (self.masks.clone(), self.vocab_size);
        Ok(Grammar { start, masks, vocab_size, warnings })
    }
}

impl Grammar {
    /// What of it is only roughly kept.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Ids of the vocabulary that it is for.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}
