//! The tokenizer: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "N-API hands over owned values")]

use crate::error::to_js;
use kvengine_core::tokenizer as core;
use napi::bindgen_prelude::{Int32Array, Uint8Array};
use napi_derive::napi;

/// The tokenizer part of a GGUF file's metadata (`tokenizer.ggml.*`).
#[napi(object, object_to_js = false)]
pub struct TokenizerVocabulary {
    /// `model`: `gpt2`.
    pub model: String,
    /// `pre`: the name of the pre-tokenizer.
    pub pre: String,
    /// `tokens`: the text of each id.
    pub tokens: Vec<String>,
    /// `token_type` of each id; empty = all normal.
    pub token_types: Int32Array,
    /// `merges`: `left right`, best first.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos_id: Option<u32>,
    /// `eos_token_id`.
    pub eos_id: Option<u32>,
    /// `add_bos_token`; absent = as the pre-tokenizer's models do.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; absent = no.
    pub add_eos: Option<bool>,
}

impl From<TokenizerVocabulary> for core::Vocabulary {
    fn from(vocabulary: TokenizerVocabulary) -> Self {
        Self {
            model: vocabulary.model,
            pre: vocabulary.pre,
            tokens: vocabulary.tokens,
            token_types: vocabulary.token_types.to_vec(),
            merges: vocabulary.merges,
            bos: vocabulary.bos_id,
            eos: vocabulary.eos_id,
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
        }
    }
}

/// Text to token ids and back.
#[napi]
pub struct Tokenizer {
    core: core::Tokenizer,
}

#[napi]
impl Tokenizer {
    /// From the vocabulary of a GGUF file: byte-level BPE.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(factory)]
    pub fn from_gguf(vocabulary: TokenizerVocabulary) -> napi::Result<Self> {
        let core = core::Tokenizer::from_gguf(vocabulary.into()).map_err(to_js)?;
        Ok(Self { core })
    }

    /// From the text of a Hugging Face `tokenizer.json` with a byte-level decoder.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(factory, catch_unwind)]
    pub fn from_json(text: String) -> napi::Result<Self> {
        let core = core::Tokenizer::from_json(&text).map_err(to_js)?;
        Ok(Self { core })
    }

    /// Ids of a text. `parseSpecial`: control tokens written in it are found as such. `addSpecial`: the model's own
    /// marks (BOS, EOS) are put around it where its vocabulary says so.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn encode(
        &self,
        text: String,
        parse_special: bool,
        add_special: Option<bool>,
    ) -> napi::Result<Int32Array> {
        let ids = self.core.encode(&text, parse_special, add_special.unwrap_or(false)).map_err(to_js)?;
        Ok(Int32Array::new(ids.into_iter().map(|id| id as i32).collect()))
    }

    /// The bytes a token stands for: none for a control token (unless `withControl`) and for an id past the vocabulary.
    #[napi]
    pub fn token_bytes(&self, id: u32, with_control: Option<bool>) -> Uint8Array {
        Uint8Array::new(self.core.token_bytes(id, with_control.unwrap_or(false)).to_vec())
    }

    /// Number of ids.
    #[napi(getter)]
    pub fn vocab_size(&self) -> u32 {
        self.core.vocab_size() as u32
    }
}
