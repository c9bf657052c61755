//! Splits text into the pieces that byte-pair merges never cross: the regular expressions a vocabulary was trained with,
//! by the name a GGUF file gives them (`tokenizer.ggml.pre`).
//!
//! The published expressions end in `\s+(?!\S)|\s+`: a run of blanks leaves its last one to the word that follows. Here
//! they end in `\s+` and [`Stage::split`] gives that last blank back, so that no look-ahead is needed and every text is
//! split in linear time.

use crate::error::{Failure, Result};
use regex::Regex;

/// One expression and what is special about it.
#[derive(Clone, Copy)]
struct Pattern {
    text: &'static str,
    /// It has an alternative `\s*[\r\n]+`: a match that ends in a line break is whole.
    takes_line_breaks: bool,
}

const DIGIT: Pattern = Pattern { text: r"\p{N}", takes_line_breaks: false };
const UP_TO_3_DIGITS: Pattern = Pattern { text: r"\p{N}{1,3}", takes_line_breaks: false };
const CJK_RUN: Pattern = Pattern { text: r"[一-龥぀-ゟ゠-ヿ]+", takes_line_breaks: false };

const GPT2: Pattern = Pattern {
    text: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+",
    takes_line_breaks: false,
};
const LLAMA3: Pattern = Pattern {
    text: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const QWEN2: Pattern = Pattern {
    text: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const QWEN35: Pattern = Pattern {
    text: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const SEED_CODER: Pattern = Pattern {
    text: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const TEKKEN: Pattern = Pattern {
    text: r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const GPT4O: Pattern = Pattern {
    text: r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    takes_line_breaks: true,
};
const DEEPSEEK_V3: Pattern = Pattern {
    text: r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##,
    takes_line_breaks: true,
};

/// Names that mean the same pieces.
struct Family {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [Pattern],
    /// A piece that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// A text starts with BOS where the file does not say.
    adds_bos: bool,
}

const FAMILIES: &[Family] = &[
    Family {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        patterns: &[DIGIT, GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "exaone4", "trillion", "granite-docling", "mellum"],
        patterns: &[GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        patterns: &[LLAMA3],
        ignore_merges: false,
        adds_bos: false,
    },
    Family { names: &["glm4"], patterns: &[LLAMA3], ignore_merges: true, adds_bos: false },
    Family {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2"],
        patterns: &[QWEN2],
        ignore_merges: false,
        adds_bos: false,
    },
    Family { names: &["qwen35"], patterns: &[QWEN35], ignore_merges: false, adds_bos: false },
    Family { names: &["seed-coder"], patterns: &[SEED_CODER], ignore_merges: false, adds_bos: false },
    Family { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, adds_bos: true },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        patterns: &[GPT4O],
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense"],
        patterns: &[UP_TO_3_DIGITS, CJK_RUN, DEEPSEEK_V3],
        ignore_merges: false,
        adds_bos: false,
    },
];

struct Stage {
    regex: Regex,
    takes_line_breaks: bool,
}

impl Stage {
    fn compile(pattern: Pattern) -> Result<Self> {
        let regex = Regex::new(pattern.text)
            .map_err(|error| Failure::internal(format!("pre-tokenizer {:?}: {error}", pattern.text)))?;
        Ok(Self { regex, takes_line_breaks: pattern.takes_line_breaks })
    }

    /// Calls `emit` with each piece in order; together they are the text.
    fn split<'t>(&self, text: &'t str, emit: &mut dyn FnMut(&'t str)) {
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            if found.start() > at {
                emit(&text[at..found.start()]);
            }
            let end = found.start() + self.kept(found.as_str(), found.end() < text.len());
            emit(&text[found.start()..end]);
            at = end;
        }
        if at < text.len() {
            emit(&text[at..]);
        }
    }

    /// Bytes of a match that form the piece: all, but a run of blanks leaves its last one to the text that follows.
    fn kept(&self, found: &str, text_follows: bool) -> usize {
        match found.chars().next_back() {
            Some('\r' | '\n') if self.takes_line_breaks => found.len(),
            Some(last) if text_follows && last.is_whitespace() && found.len() > last.len_utf8() => {
                found.len() - last.len_utf8()
            }
            _ => found.len(),
        }
    }
}

/// A vocabulary's way to cut text into pieces.
pub(super) struct PreTokenizer {
    stages: Vec<Stage>,
    pub(super) ignore_merges: bool,
    pub(super) adds_bos: bool,
}

impl PreTokenizer {
    /// By the name in `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let Some(family) = FAMILIES.iter().find(|family| family.names.contains(&name)) else {
            let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
            return Err(Failure::unsupported(format!(
                "tokenizer.ggml.pre: {name:?} is not a known pre-tokenizer; known are {}",
                known.join(", ")
            )));
        };
        let stages = family.patterns.iter().copied().map(Stage::compile).collect::<Result<_>>()?;
        Ok(Self { stages, ignore_merges: family.ignore_merges, adds_bos: family.adds_bos })
    }

    /// Calls `emit` with each piece in order; together they are the text.
    pub(super) fn split<'t>(&self, text: &'t str, emit: &mut dyn FnMut(&'t str)) {
        split_stages(&self.stages, text, emit);
    }
}

fn split_stages<'t>(stages: &[Stage], text: &'t str, emit: &mut dyn FnMut(&'t str)) {
    match stages.split_first() {
        Some((first, rest)) => first.split(text, &mut |piece| split_stages(rest, piece, emit)),
        None => emit(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use std::sync::LazyLock;
    use tokenizers::utils::SysRegex;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        PreTokenizer::named(name).unwrap().split(text, &mut |piece| pieces.push(piece));
        pieces
    }

    #[test]
    fn a_run_of_blanks_leaves_its_last_to_the_next_word() {
        assert_eq!(pieces("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces("gpt-2", "a\t\tb"), ["a", "\t", "\t", "b"]);
        assert_eq!(pieces("gpt-2", "a   "), ["a", "   "]);
        assert_eq!(pieces("gpt-2", "a \n b"), ["a", " \n", " b"]);
        assert_eq!(pieces("llama-bpe", "a \n\n  b"), ["a", " \n\n", " ", " b"]);
        assert_eq!(pieces("llama-bpe", "a\t\tb 7"), ["a", "\t", "\tb", " ", "7"]);
    }

    #[test]
    fn digits_are_cut_as_each_family_wants() {
        assert_eq!(pieces("gpt-2", "in 2024"), ["in", " 2024"]);
        assert_eq!(pieces("smollm", "in  2024."), ["in", "  ", "2", "0", "2", "4", "."]);
        assert_eq!(pieces("llama-bpe", "12345"), ["123", "45"]);
        assert_eq!(pieces("qwen2", "12"), ["1", "2"]);
        assert_eq!(pieces("deepseek-v3", "漢字 1234"), ["漢字", " ", "123", "4"]);
    }

    #[test]
    fn contractions_follow_the_case_rule_of_the_family() {
        assert_eq!(pieces("gpt-2", "it's IT'S"), ["it", "'s", " IT", "'", "S"]);
        assert_eq!(pieces("llama-bpe", "it's IT'S"), ["it", "'s", " IT", "'S"]);
        assert_eq!(pieces("gpt-4o", "don't HTTPServer"), ["don't", " HTTPServer"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = PreTokenizer::named("nonsense").err().unwrap();
        assert_eq!(error.code.as_str(), "unsupported");
        assert!(error.message.contains("nonsense") && error.message.contains("smollm"), "{error}");
    }

    /// Each expression as it is here, and as it is published (look-ahead included) in a backtracking engine.
    static PATTERNS: LazyLock<Vec<(Stage, SysRegex)>> = LazyLock::new(|| {
        let patterns = [GPT2, LLAMA3, QWEN2, QWEN35, SEED_CODER, TEKKEN, GPT4O, DEEPSEEK_V3];
        let published = |pattern: Pattern| {
            let head = pattern.text.strip_suffix(r"\s+").unwrap();
            SysRegex::new(&format!(r"{head}\s+(?!\S)|\s+")).unwrap()
        };
        patterns.map(|pattern| (Stage::compile(pattern).unwrap(), published(pattern))).into()
    });

    static NAMED: LazyLock<Vec<PreTokenizer>> = LazyLock::new(|| {
        FAMILIES.iter().map(|family| PreTokenizer::named(family.names[0]).unwrap()).collect()
    });

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..Default::default() })]

        #[test]
        fn giving_the_last_blank_back_is_the_published_look_ahead(
            text in r"([ \t\n\r\u{a0}\u{3000}]{1,4}|[a-zA-Z]{1,3}|[0-9]{1,5}|'s|'LL|[!-/]{1,2}|é|\u{301}|漢|ไท|😀|\u{0}){0,12}"
        ) {
            for (stage, published) in PATTERNS.iter() {
                let mut expected = Vec::new();
                let mut at = 0;
                for (start, end) in published.find_iter(&text) {
                    if start > at {
                        expected.push(&text[at..start]);
                    }
                    expected.push(&text[start..end]);
                    at = end;
                }
                if at < text.len() {
                    expected.push(&text[at..]);
                }
                let mut pieces = Vec::new();
                stage.split(&text, &mut |piece| pieces.push(piece));
                prop_assert_eq!(pieces, expected, "{}", stage.regex);
            }
        }

        #[test]
        fn the_pieces_are_the_text(text in any::<String>()) {
            for pre_tokenizer in NAMED.iter() {
                let mut joined = String::new();
                pre_tokenizer.split(&text, &mut |piece| joined.push_str(piece));
                prop_assert_eq!(&joined, &text);
            }
        }
    }
}
