//! Text to token ids: byte-level BPE from the vocabulary of a GGUF file, or a Hugging Face `tokenizer.json`.
//!
//! Both run on the `tokenizers` crate. Vocabularies come from outside: whatever they hold, the answer is an error or a
//! tokenizer that never panics.

mod byte_level;
mod pre_tokenizer;

use crate::error::{Failure, Result};
use aho_corasick::{AhoCorasick, MatchKind};
use pre_tokenizer::PreTokenizer;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{DecoderWrapper, Model};

/// Ids a `tokenizer.json` may use: far more than any vocabulary, and a table of them fits in memory.
const MAX_IDS: usize = 1 << 24;

/// The tokenizer part of a GGUF file's metadata (`tokenizer.ggml.*`).
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// `model`: only `gpt2`, byte-level BPE, is known.
    pub model: String,
    /// `pre`: the name of the pre-tokenizer.
    pub pre: String,
    /// `tokens`: the text of each id, in the byte alphabet.
    pub tokens: Vec<String>,
    /// `token_type` of each id; empty = all normal.
    pub token_types: Vec<i32>,
    /// `merges`: `left right`, best first.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `add_bos_token`; none = as the pre-tokenizer's models do.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; none = no.
    pub add_eos: Option<bool>,
}

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text in the byte alphabet (1).
    Normal,
    /// A mark for the model (2 unknown, 3 control): not text, and found in text only when asked.
    Control,
    /// Text as it is, always found whole (4).
    UserDefined,
    /// A place never used (5).
    Unused,
    /// One byte, written `<0x0A>` (6).
    Byte,
}

impl Kind {
    fn of(token_type: i32) -> Option<Self> {
        match token_type {
            1 => Some(Self::Normal),
            2 | 3 => Some(Self::Control),
            4 => Some(Self::UserDefined),
            5 => Some(Self::Unused),
            6 => Some(Self::Byte),
            _ => None,
        }
    }
}

/// The bytes each id stands for, in one piece of memory.
struct TokenTable {
    bytes: Vec<u8>,
    /// Where each id's bytes end.
    ends: Vec<usize>,
    kinds: Vec<Kind>,
}

impl TokenTable {
    fn with_capacity(tokens: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(tokens * 8),
            ends: Vec::with_capacity(tokens),
            kinds: Vec::with_capacity(tokens),
        }
    }

    fn push(&mut self, token: &str, kind: Kind) {
        match kind {
            Kind::Normal => byte_level::push_bytes(token, &mut self.bytes),
            Kind::Control | Kind::UserDefined => self.bytes.extend_from_slice(token.as_bytes()),
            Kind::Unused => {}
            Kind::Byte => match byte_token(token) {
                Some(byte) => self.bytes.push(byte),
                None => byte_level::push_bytes(token, &mut self.bytes),
            },
        }
        self.ends.push(self.bytes.len());
        self.kinds.push(kind);
    }

    fn get(&self, id: u32, with_control: bool) -> &[u8] {
        let id = id as usize;
        match self.kinds.get(id) {
            None => &[],
            Some(Kind::Control) if !with_control => &[],
            Some(_) => &self.bytes[if id == 0 { 0 } else { self.ends[id - 1] }..self.ends[id]],
        }
    }
}

/// The byte of `<0x0A>`.
fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// Finds the first, longest of a set of texts that are tokens as a whole.
struct WholeTokens {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl WholeTokens {
    fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> Result<Self> {
        let (texts, ids): (Vec<&str>, Vec<u32>) = tokens.unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| Failure::bad_model(format!("tokenizer.ggml.tokens: special tokens: {error}")))?;
        Ok(Self { automaton, ids })
    }

    /// Calls `plain` with the text between tokens and pushes the ids of tokens found.
    fn split(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
        plain: &mut dyn FnMut(&str, &mut Vec<u32>) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        for found in self.automaton.find_iter(text) {
            plain(&text[at..found.start()], ids)?;
            ids.push(self.ids[found.pattern().as_usize()]);
            at = found.end();
        }
        plain(&text[at..], ids)
    }
}

struct BytePairs {
    bpe: BPE,
    pre_tokenizer: PreTokenizer,
    /// Bytes that are tokens; others are left out of the ids, and merges do not cross them.
    known_bytes: [bool; 256],
    /// Control and user-defined tokens.
    special: WholeTokens,
    user_defined: WholeTokens,
    /// Put before and after a text when asked.
    prefix: Option<u32>,
    suffix: Option<u32>,
}

impl BytePairs {
    fn encode(&self, text: &str, parse_special: bool, add_special: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special {
            ids.extend(self.prefix);
        }
        let whole = if parse_special { &self.special } else { &self.user_defined };
        let mut word = String::new();
        whole.split(text, &mut ids, &mut |plain, ids| {
            let mut outcome = Ok(());
            self.pre_tokenizer.split(plain, &mut |piece| {
                if outcome.is_ok() {
                    outcome = self.encode_piece(piece, &mut word, ids);
                }
            });
            outcome
        })?;
        if add_special {
            ids.extend(self.suffix);
        }
        Ok(ids)
    }

    fn encode_piece(&self, piece: &str, word: &mut String, ids: &mut Vec<u32>) -> Result<()> {
        word.clear();
        for byte in piece.bytes() {
            if self.known_bytes[usize::from(byte)] {
                word.push(byte_level::CHARS[usize::from(byte)]);
            } else {
                self.merge(word, ids)?;
                word.clear();
            }
        }
        self.merge(word, ids)
    }

    fn merge(&self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        let tokens =
            self.bpe.tokenize(word).map_err(|error| Failure::internal(format!("tokenizer: {error}")))?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

enum Encoder {
    BytePairs(Box<BytePairs>),
    /// Locked because the crate keeps "special tokens are plain text" as a state.
    Json(Box<Mutex<tokenizers::Tokenizer>>),
}

/// Text to ids and ids to bytes.
pub struct Tokenizer {
    encoder: Encoder,
    table: TokenTable,
}

impl Tokenizer {
    /// From the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// `unsupported` for another model than `gpt2` or an unknown pre-tokenizer; `bad_model` for a vocabulary that
    /// contradicts itself.
    pub fn from_gguf(vocabulary: Vocabulary) -> Result<Self> {
        let Vocabulary { model, pre, tokens, token_types, merges, bos, eos, add_bos, add_eos } = vocabulary;
        if model != "gpt2" {
            return Err(Failure::unsupported(format!(
                "tokenizer.ggml.model: {model:?} is not supported; gpt2 (byte-level BPE) is"
            )));
        }
        let size = tokens.len();
        if size == 0 || size > MAX_IDS {
            return Err(Failure::bad_model(format!(
                "tokenizer.ggml.tokens: {size} tokens; 1 to {MAX_IDS} are allowed"
            )));
        }
        let pre_tokenizer = PreTokenizer::named(&pre)?;
        let kinds = token_kinds(&token_types, size)?;
        let mut table = TokenTable::with_capacity(size);
        for (token, &kind) in tokens.iter().zip(&kinds) {
            table.push(token, kind);
        }
        let prefix = marker("bos", add_bos.unwrap_or(pre_tokenizer.adds_bos && bos.is_some()), bos, size)?;
        let suffix = marker("eos", add_eos.unwrap_or(false), eos, size)?;
        let whole = |wanted: &[Kind]| {
            let tokens = tokens.iter().zip(&kinds).zip(0..);
            let chosen = tokens.filter(|((token, kind), _)| wanted.contains(kind) && !token.is_empty());
            WholeTokens::new(chosen.map(|((token, _), id)| (token.as_str(), id)))
        };
        let special = whole(&[Kind::Control, Kind::UserDefined])?;
        let user_defined = whole(&[Kind::UserDefined])?;

        let merges = split_merges(merges)?;
        let control = tokens.iter().zip(&kinds).filter(|(_, kind)| **kind == Kind::Control);
        let hidden: Vec<String> = if pre_tokenizer.ignore_merges {
            unreachable(control.map(|(token, _)| token.as_str()), &merges)
        } else {
            Vec::new()
        };
        // Of tokens with one text the last counts, as in llama.cpp.
        let mut ids: Vocab = tokens.into_iter().zip(0..).filter(|(token, _)| !token.is_empty()).collect();
        for token in &hidden {
            ids.remove(token);
        }
        let known_bytes = std::array::from_fn(|byte| {
            let mut utf8 = [0; 4];
            ids.contains_key(&*byte_level::CHARS[byte].encode_utf8(&mut utf8))
        });
        check_lengths(&merges, &ids)?;
        let bpe = BPE::builder()
            .vocab_and_merges(ids, merges)
            .ignore_merges(pre_tokenizer.ignore_merges)
            .build()
            .map_err(|error| Failure::bad_model(format!("tokenizer.ggml.merges: {error}")))?;
        let encoder = BytePairs { bpe, pre_tokenizer, known_bytes, special, user_defined, prefix, suffix };
        Ok(Self { encoder: Encoder::BytePairs(Box::new(encoder)), table })
    }

    /// From the text of a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// `bad_model` for a text that is no tokenizer; `unsupported` for one that is not byte-level.
    pub fn from_json(text: &str) -> Result<Self> {
        let malformed =
            |error: &dyn std::fmt::Display| Failure::bad_model(format!("tokenizer.json: {error}"));
        // The crate trusts the file: merges that name long absent tokens index past a buffer.
        let mut tokenizer = catch_unwind(|| tokenizers::Tokenizer::from_bytes(text))
            .map_err(|_| malformed(&"merges or tokens contradict each other"))?
            .map_err(|error| malformed(&error))?;
        if !matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(Failure::unsupported("tokenizer.json: decoder: only ByteLevel is supported"));
        }
        tokenizer.with_truncation(None).map_err(|error| malformed(&error))?.with_padding(None);

        let added = tokenizer.get_added_tokens_decoder();
        let mut by_id: Vec<(u32, String)> =
            tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        by_id.sort_unstable();
        let size = by_id.last().map_or(0, |(id, _)| *id as usize + 1);
        if size == 0 || size > MAX_IDS {
            return Err(malformed(&format_args!("ids up to {size}; 1 to {MAX_IDS} are allowed")));
        }
        let mut table = TokenTable::with_capacity(size);
        for (id, token) in &by_id {
            // The crate numbers added tokens itself where the model's own ids have gaps.
            if table.ends.len() > *id as usize {
                return Err(malformed(&format_args!("two tokens have the id {id}")));
            }
            while table.ends.len() < *id as usize {
                table.push("", Kind::Unused);
            }
            let kind = match added.get(id) {
                Some(token) if token.special => Kind::Control,
                Some(_) => Kind::UserDefined,
                None => Kind::Normal,
            };
            table.push(token, kind);
        }
        Ok(Self { encoder: Encoder::Json(Box::new(Mutex::new(tokenizer))), table })
    }

    /// Ids of `text`. With `parse_special`, control tokens written in it are found as such; without, they are text like
    /// any other (user-defined tokens are found either way). With `add_special`, the model's own marks are put around
    /// it: BOS and EOS where the vocabulary says so.
    ///
    /// # Errors
    /// `internal` where the crate fails on a `tokenizer.json` of its own making.
    pub fn encode(&self, text: &str, parse_special: bool, add_special: bool) -> Result<Vec<u32>> {
        match &self.encoder {
            Encoder::BytePairs(encoder) => encoder.encode(text, parse_special, add_special),
            Encoder::Json(tokenizer) => {
                let mut tokenizer = tokenizer.lock().unwrap_or_else(PoisonError::into_inner);
                tokenizer.set_encode_special_tokens(!parse_special);
                catch_unwind(AssertUnwindSafe(|| tokenizer.encode(text, add_special)))
                    .map_err(|_| Failure::internal("tokenizer.json: the tokenizer panicked on a text"))?
                    .map(|encoding| encoding.get_ids().to_vec())
                    .map_err(|error| Failure::internal(format!("tokenizer.json: {error}")))
            }
        }
    }

    /// The bytes a token stands for; not always whole characters. A control token stands for none unless
    /// `with_control`. An id past the vocabulary (padding of the embedding) stands for none.
    pub fn token_bytes(&self, id: u32, with_control: bool) -> &[u8] {
        self.table.get(id, with_control)
    }

    /// Number of ids.
    pub fn vocab_size(&self) -> usize {
        self.table.ends.len()
    }
}

fn token_kinds(token_types: &[i32], size: usize) -> Result<Vec<Kind>> {
    if token_types.is_empty() {
        return Ok(vec![Kind::Normal; size]);
    }
    if token_types.len() != size {
        return Err(Failure::bad_model(format!(
            "tokenizer.ggml.token_type: {} types for {size} tokens",
            token_types.len()
        )));
    }
    let checked = token_types.iter().enumerate().map(|(id, &token_type)| {
        Kind::of(token_type).ok_or_else(|| {
            Failure::bad_model(format!(
                "tokenizer.ggml.token_type: token {id} has type {token_type}; 1 to 6 are allowed"
            ))
        })
    });
    checked.collect()
}

/// The id to add, if one is to be added.
fn marker(name: &str, wanted: bool, id: Option<u32>, size: usize) -> Result<Option<u32>> {
    match (wanted, id) {
        (false, _) => Ok(None),
        (true, Some(id)) if (id as usize) < size => Ok(Some(id)),
        (true, Some(id)) => Err(Failure::bad_model(format!(
            "tokenizer.ggml.{name}_token_id: {id} is outside the vocabulary of {size} tokens"
        ))),
        (true, None) => Err(Failure::bad_model(format!(
            "tokenizer.ggml.add_{name}_token is true but tokenizer.ggml.{name}_token_id is missing"
        ))),
    }
}

/// The merges as pairs, best first.
fn split_merges(merges: Vec<String>) -> Result<Merges> {
    let pairs = merges.into_iter().enumerate().map(|(rank, mut left)| {
        let space =
            left.find(' ').ok_or_else(|| bad_merge(rank, &left, "is not two tokens with a space between"))?;
        let right = left.split_off(space + 1);
        left.truncate(space);
        Ok((left, right))
    });
    pairs.collect()
}

/// The crate's builder names a token that is absent, but relies on no product of a merge being longer than all tokens.
fn check_lengths(merges: &Merges, ids: &Vocab) -> Result<()> {
    let longest = ids.keys().map(String::len).max().unwrap_or(0);
    match merges.iter().position(|(left, right)| left.len() + right.len() > longest) {
        None => Ok(()),
        Some(rank) => {
            let (left, right) = &merges[rank];
            Err(bad_merge(rank, &format!("{left} {right}"), "makes a token that is not in the vocabulary"))
        }
    }
}

fn bad_merge(rank: usize, merge: &str, what: &str) -> Failure {
    let shown: String = merge.chars().take(60).collect();
    Failure::bad_model(format!("tokenizer.ggml.merges: merge {rank} ({shown:?}) {what}"))
}

/// Those of `tokens` that no merge names and that are longer than one symbol: plain text never becomes them by merging.
/// Where a piece that is a token is taken as it is, they have to be out of the merging vocabulary for that to stay so.
fn unreachable<'a>(tokens: impl Iterator<Item = &'a str>, merges: &Merges) -> Vec<String> {
    let mut tokens: HashSet<&str> = tokens.filter(|token| token.chars().nth(1).is_some()).collect();
    let lengths: HashSet<usize> = tokens.iter().map(|token| token.len()).collect();
    for (left, right) in merges {
        tokens.remove(left.as_str());
        tokens.remove(right.as_str());
        if lengths.contains(&(left.len() + right.len())) {
            tokens.remove([left.as_str(), right].concat().as_str());
        }
    }
    tokens.into_iter().map(str::to_owned).collect()
}

/// The token of each byte.
#[cfg(test)]
pub(crate) fn byte_alphabet() -> Vec<String> {
    byte_level::CHARS.iter().map(char::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use std::sync::LazyLock;

    /// All 256 bytes, then whole words made by `merges`.
    fn vocabulary(merges: &[&str]) -> Vocabulary {
        let mut tokens: Vec<String> = byte_level::CHARS.iter().map(char::to_string).collect();
        tokens.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
        let token_types = vec![1; tokens.len()];
        let merges = merges.iter().map(ToString::to_string).collect();
        Vocabulary {
            model: "gpt2".into(),
            pre: "gpt-2".into(),
            tokens,
            token_types,
            merges,
            ..Default::default()
        }
    }

    fn with_token(mut vocabulary: Vocabulary, token: &str, token_type: i32) -> Vocabulary {
        vocabulary.tokens.push(token.into());
        vocabulary.token_types.push(token_type);
        vocabulary
    }

    fn text_of(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| tokenizer.token_bytes(id, false)).copied().collect()
    }

    #[test]
    fn merges_are_applied_best_first() {
        let tokenizer = Tokenizer::from_gguf(vocabulary(&["b c", "a b", "Ġ a"])).unwrap();
        assert_eq!(tokenizer.encode("abc", true, false).unwrap(), [u32::from(b'a'), 256]);
        assert_eq!(tokenizer.encode(" ab", true, false).unwrap(), [u32::from(b' '), 257]);
    }

    #[test]
    fn plain_text_never_becomes_a_control_token() {
        let mut vocabulary = with_token(vocabulary(&["a b"]), "Assistant", 3);
        for (pre, parse_special) in [("llama-bpe", false), ("gpt-2", false), ("llama-bpe", true)] {
            vocabulary.pre = pre.into();
            let tokenizer = Tokenizer::from_gguf(vocabulary.clone()).unwrap();
            let ids = tokenizer.encode("Assistant", parse_special, false).unwrap();
            assert_eq!(ids.contains(&257), parse_special, "{pre}");
        }
    }

    #[test]
    fn of_overlapping_whole_tokens_the_first_and_longest_is_found() {
        let vocabulary = with_token(with_token(vocabulary(&[]), "<a>", 4), "<a><b>", 4);
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        assert_eq!(tokenizer.encode("<a><a><b>", false, false).unwrap(), [256, 257]);
    }

    #[test]
    fn each_kind_of_token_stands_for_its_bytes() {
        let mut vocabulary = vocabulary(&[]);
        for (token, token_type) in
            [("<s>", 3), ("<unk>", 2), ("ĠĊ", 4), ("[PAD]", 5), ("<0x0A>", 6), ("<0xZZ>", 6)]
        {
            vocabulary = with_token(vocabulary, token, token_type);
        }
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        let bytes: Vec<&[u8]> = (256..264).map(|id| tokenizer.token_bytes(id, false)).collect();
        assert_eq!(bytes, [b"".as_slice(), b"", "ĠĊ".as_bytes(), b"", b"\n", b"<0xZZ>", b"", b""]);
        assert_eq!(tokenizer.token_bytes(256, true), b"<s>");
        assert_eq!(tokenizer.token_bytes(u32::MAX, true), b"");
    }

    #[test]
    fn a_byte_without_token_is_left_out_and_merges_do_not_cross_it() {
        let mut vocabulary = vocabulary(&["! !"]);
        vocabulary.tokens[7] = "[7]".into();
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        assert_eq!(tokenizer.encode("!\u{7}!", false, false).unwrap(), [33, 33]);
        assert_eq!(tokenizer.encode("!!", false, false).unwrap(), [256]);
    }

    fn any_vocabulary() -> impl Strategy<Value = Vocabulary> {
        let token = "[abĠ<>|é字 ]{0,4}";
        let pre = prop::sample::select(vec!["gpt-2", "smollm", "llama-bpe", "deepseek-v3", ""]);
        (
            prop::collection::vec(token, 0..12),
            prop::collection::vec(-1..8_i32, 0..12),
            prop::collection::vec("[abĠ é]{0,5}", 0..6),
            (pre, prop::option::of(0..14_u32), any::<Option<bool>>(), any::<bool>()),
        )
            .prop_map(|(tokens, mut token_types, merges, (pre, bos, add_bos, valid_types))| {
                if valid_types {
                    token_types = (0..tokens.len() as i32).map(|id| 1 + id % 6).collect();
                }
                let model = "gpt2".into();
                Vocabulary {
                    model,
                    pre: pre.into(),
                    tokens,
                    token_types,
                    merges,
                    bos,
                    add_bos,
                    ..Default::default()
                }
            })
    }

    static OF_EACH_PRE: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
        let of = |pre: &str| {
            let mut vocabulary = vocabulary(&["a b", "Ġ a", "Ġa b", "Ã ©", "Ġ Ġ"]);
            vocabulary.pre = pre.into();
            Tokenizer::from_gguf(vocabulary).unwrap()
        };
        ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o", "deepseek-v3"].map(of).into()
    });

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2), ..Default::default() })]

        #[test]
        fn decoding_gives_the_text_back(text in any::<String>(), parse_special in any::<bool>()) {
            for tokenizer in OF_EACH_PRE.iter() {
                let ids = tokenizer.encode(&text, parse_special, false).unwrap();
                prop_assert_eq!(text_of(tokenizer, &ids), text.as_bytes());
            }
        }

        #[test]
        fn a_hostile_vocabulary_is_an_error_or_a_tokenizer(
            vocabulary in any_vocabulary(),
            text in "[ab <>|é字\n0-9]{0,12}",
            ids in prop::collection::vec(any::<u32>(), 0..4),
        ) {
            if let Ok(tokenizer) = Tokenizer::from_gguf(vocabulary) {
                for parse_special in [false, true] {
                    for id in tokenizer.encode(&text, parse_special, true).unwrap() {
                        prop_assert!((id as usize) < tokenizer.vocab_size());
                    }
                }
                text_of(&tokenizer, &ids);
            }
        }

        #[test]
        fn a_hostile_json_is_an_error(cut in 0..JSON.len(), byte in any::<u8>()) {
            let mut text = JSON.as_bytes().to_vec();
            text[cut] = byte;
            for text in [String::from_utf8_lossy(&text).as_ref(), &JSON[..cut]] {
                if let Ok(tokenizer) = Tokenizer::from_json(text) {
                    tokenizer.encode("ab <s>c", true, true).unwrap();
                    tokenizer.token_bytes(0, true);
                }
            }
        }
    }

    const JSON: &str = r#"{"version":"1.0","added_tokens":[{"id":4,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"c":3},"merges":[["a","b"]]}}"#;

    #[test]
    fn merges_of_a_json_that_outgrow_its_tokens_are_an_error() {
        let text = JSON.replace(r#"[["a","b"]]"#, r#"[["a","b"],["ab","ab"]]"#);
        let error = Tokenizer::from_json(&text).err().unwrap();
        assert_eq!(error.code.as_str(), "bad_model");
    }
}
