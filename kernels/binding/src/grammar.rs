//! Grammars: convert, call, convert.

use crate::error::to_js;
use crate::tokenizer::TokenizerVocabulary;
use kvengine_core::error::{Failure, Result};
use kvengine_core::grammar as core;
use kvengine_core::tokenizer::{Tokenizer, Vocabulary};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Compiles grammars for one vocabulary, on native threads.
#[napi]
pub struct GrammarCompiler {
    shared: Arc<Shared>,
}

struct Shared {
    /// Until the first call has made a compiler of it: that takes some hundred milliseconds.
    vocabulary: Mutex<Vocabulary>,
    end_ids: Vec<u32>,
    made: OnceLock<Result<core::Compiler>>,
}

impl Shared {
    fn compiler(&self) -> Result<&core::Compiler> {
        let make = || {
            let vocabulary =
                std::mem::take(&mut *self.vocabulary.lock().unwrap_or_else(PoisonError::into_inner));
            core::Compiler::new(Arc::new(Tokenizer::from_gguf(vocabulary)?), &self.end_ids)
        };
        self.made.get_or_init(make).as_ref().map_err(Failure::clone)
    }
}

#[napi]
impl GrammarCompiler {
    /// `endIds`: the tokens that end an answer.
    #[napi(constructor)]
    pub fn new(vocabulary: TokenizerVocabulary, end_ids: Vec<u32>) -> Self {
        let vocabulary = Mutex::new(vocabulary.into());
        Self { shared: Arc::new(Shared { vocabulary, end_ids, made: OnceLock::new() }) }
    }

    /// Compiles a text in llguidance's Lark.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(ts_return_type = "Promise<Grammar>")]
    pub fn compile(&self, text: String) -> AsyncTask<Compile> {
        AsyncTask::new(Compile { shared: Arc::clone(&self.shared), text })
    }
}

/// A compiled grammar, for `Runner.openSeat`.
#[napi]
pub struct Grammar {
    pub(crate) core: Arc<core::Grammar>,
}

#[napi]
impl Grammar {
    /// What of it is only roughly kept, for people.
    #[napi(getter)]
    pub fn warnings(&self) -> Vec<String> {
        self.core.warnings().to_vec()
    }
}

/// Compiles on a native thread.
pub struct Compile {
    shared: Arc<Shared>,
    text: String,
}

impl Task for Compile {
    type Output = core::Grammar;
    type JsValue = Grammar;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        self.shared.compiler().and_then(|compiler| compiler.compile(self.text.clone())).map_err(to_js)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(Grammar { core: Arc::new(output) })
    }
}
