//! What penalties and bad words must know of the tokens before. It is a function of prompt and output, so a seat that is
//! opened again with a longer history goes on as if it had never been closed.

use crate::seats::SeatParams;

/// How often a token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The token.
    pub token: i32,
    /// Times in the output; 0 when it is in the prompt only.
    pub outputs: u32,
}

/// Tokens before the next pick, as far as the seat's parameters ask for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Whether `seen` is kept.
    counts: bool,
    /// All tokens of prompt and output, ascending, each once.
    seen: Vec<Seen>,
    /// The newest output tokens, oldest first.
    recent: Vec<i32>,
    /// Most tokens of `recent`: the longest bad word without its last token.
    num_recent: usize,
}

impl History {
    /// `tokens` is the prompt (`params.prompt_length` tokens) and the output so far.
    pub fn new(params: &SeatParams, tokens: &[i32]) -> Self {
        let (prompt, output) = tokens.split_at(tokens.len().min(params.prompt_length as usize));
        let longest = params.bad_words.iter().map(Vec::len).max().unwrap_or(0);
        let num_recent = longest.saturating_sub(1);
        let recent = output[output.len().saturating_sub(num_recent)..].to_vec();
        let counts = params.penalizes();
        let mut seen = Vec::new();
        if counts {
            seen.extend(prompt.iter().map(|&token| Seen { token, outputs: 0 }));
            seen.extend(output.iter().map(|&token| Seen { token, outputs: 1 }));
            seen.sort_unstable_by_key(|seen| seen.token);
            seen.dedup_by(|later, first| {
                let same = later.token == first.token;
                if same {
                    first.outputs += later.outputs;
                }
                same
            });
        }
        Self { counts, seen, recent, num_recent }
    }

    /// Adds an output token.
    pub fn push(&mut self, token: i32) {
        if self.counts {
            match self.seen.binary_search_by_key(&token, |seen| seen.token) {
                Ok(at) => self.seen[at].outputs += 1,
                Err(at) => self.seen.insert(at, Seen { token, outputs: 1 }),
            }
        }
        if self.num_recent > 0 {
            if self.recent.len() == self.num_recent {
                self.recent.remove(0);
            }
            self.recent.push(token);
        }
    }

    /// All tokens of prompt and output; empty without penalties.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Whether the output ends with these tokens, of which there are fewer than in the longest bad word.
    pub(super) fn ends_with(&self, tokens: &[i32]) -> bool {
        self.recent.ends_with(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(prompt_length: u32) -> SeatParams {
        SeatParams {
            presence_penalty: 1.0,
            bad_words: vec![vec![1, 2, 3, 4], vec![7]],
            prompt_length,
            ..SeatParams::default()
        }
    }

    proptest! {
        #[test]
        fn a_history_given_whole_is_the_one_that_grew(
            tokens in proptest::collection::vec(0_i32..12, 0..40),
            prompt in 0_usize..40,
            cut in 0_usize..40,
        ) {
            let prompt = prompt.min(tokens.len());
            let cut = cut.clamp(prompt, tokens.len().max(prompt));
            let params = params(prompt as u32);
            let mut grown = History::new(&params, &tokens[..cut]);
            for &token in &tokens[cut..] {
                grown.push(token);
            }
            prop_assert_eq!(&grown, &History::new(&params, &tokens));
            for token in 0..12 {
                let count = tokens[prompt..].iter().filter(|&&t| t == token).count();
                let seen = grown.seen().iter().find(|seen| seen.token == token);
                prop_assert_eq!(seen.is_some(), tokens.contains(&token));
                prop_assert_eq!(seen.map_or(0, |seen| seen.outputs as usize), count);
            }
        }
    }

    #[test]
    fn nothing_is_kept_that_nobody_asks_for() {
        let mut history = History::new(&SeatParams::default(), &[1, 2, 3]);
        history.push(4);
        assert_eq!(history, History::default());
    }
}
