//! A tokenizer's vocabulary as the grammar crate wants it: bytes of every token, and text as the tokens that the model would
//! write it with.

use crate::error::{Failure, Result};
use crate::tokenizer::Tokenizer;
use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;

/// See the module.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    /// `end_ids` end an answer: they are allowed where a grammar may end, and nowhere else.
    ///
    /// # Errors
    /// `unsupported` where there are none, `bad_model` where one is outside the vocabulary.
    pub(super) fn new(tokenizer: Arc<Tokenizer>, end_ids: &[u32]) -> Result<Self> {
        let size = tokenizer.vocab_size();
        let Some(&first) = end_ids.first() else {
            return Err(Failure::unsupported(
                "structured output needs a token that ends an answer; the model's vocabulary names none",
            ));
        };
        if let Some(id) = end_ids.iter().find(|&&id| id as usize >= size) {
            return Err(Failure::bad_model(format!("end token {id} is outside the vocabulary of {size}")));
        }
        let words: Vec<Vec<u8>> = (0..size as u32).map(|id| word(&tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, first), &words).with_eos_tokens(end_ids);
        Ok(Self { tokenizer, trie })
    }

    fn has_bytes(&self, ids: &[u32], bytes: &[u8]) -> bool {
        let spelled = ids.iter().flat_map(|&id| self.tokenizer.token_bytes(id, false));
        spelled.eq(bytes)
    }
}

/// Marks are kept apart from text by a byte that no text has.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let text = tokenizer.token_bytes(id, false);
    match (text.first(), tokenizer.token_bytes(id, true)) {
        (Some(&TokTrie::SPECIAL_TOKEN_MARKER), _) | (None, []) => Vec::new(),
        (Some(_), _) => text.to_vec(),
        (None, mark) => [&[TokTrie::SPECIAL_TOKEN_MARKER], mark].concat(),
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            match self.tokenizer.encode(text, false, false) {
                // A tokenizer may write a text otherwise than it is (normal forms, a space before it).
                Ok(ids) if self.has_bytes(&ids, text.as_bytes()) => ids,
                _ => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }
}
