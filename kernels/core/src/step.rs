//! One step's input: which tokens of which sequences to compute, in which KV blocks. It arrives as one flat array of
//! i32 written by `engine/scheduler/batch.ts`; every index is checked here once, so kernels need not.
//!
//! ```text
//! 0 version (1)   1 step id   2 N tokens   3 R rows   4 G groups   5 S samples   6 B block-table entries   7 reserved (0)
//! tokens[N]          token ids; -1 = the token last sampled for the row's seat
//! seats[R]           the sampler seat of each row, no seat twice
//! firstToken[R+1]    row r owns tokens firstToken[r]..firstToken[r+1], at least one
//! startPosition[R]   position of the row's first token = length of the present KV prefix
//! sampleTokens[S]    indices into tokens, ascending: positions whose logits are sampled
//! tableStart[G*R+1]  block table of (group g, row r) = blocks[tableStart[g*R+r]..tableStart[g*R+r+1]]
//! blocks[B]          entry i of a table covers positions i*blockSize..; 0 = the null block (left the window)
//! ```

use crate::error::{Failure, Result};

/// Version word of the layout above.
pub const VERSION: i32 = 1;
/// Words before the arrays.
pub const HEADER_WORDS: usize = 8;
/// Token id that stands for "the token last sampled for this row's seat".
pub const FROM_SEAT: i32 = -1;

/// What the indices of a step are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tokens in a step.
    pub max_tokens: usize,
    /// Most rows (sequences) in a step; also the number of seats.
    pub max_rows: usize,
    /// Highest position + 1.
    pub max_model_len: usize,
    /// Tokens of a KV block.
    pub block_size: usize,
    /// KV groups of the model.
    pub num_groups: usize,
    /// Blocks of the arena, the null block included.
    pub num_blocks: usize,
    /// Token ids are below this.
    pub vocab_size: usize,
}

/// A run of consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Sampler seat of the sequence.
    pub seat: usize,
    /// First token's index in [`Step::tokens`].
    pub first: usize,
    /// Number of tokens.
    pub len: usize,
    /// Position of the first token.
    pub start: usize,
}

/// A checked step.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The engine's number of it.
    pub id: i32,
    /// Token ids, [`FROM_SEAT`] until the runner has resolved them.
    pub tokens: Vec<i32>,
    /// Position of each token.
    pub positions: Vec<u32>,
    /// Sequences of the step.
    pub rows: Vec<Row>,
    /// Row of each token.
    pub row_of_token: Vec<u32>,
    /// Token indices that are sampled, ascending.
    pub samples: Vec<u32>,
    /// Block ids of all tables.
    pub blocks: Vec<i32>,
    table_start: Vec<usize>,
}

/// Takes words off the front of the flat array.
struct Words<'a> {
    left: &'a [i32],
}

impl<'a> Words<'a> {
    fn take(&mut self, len: usize, name: &str) -> Result<&'a [i32]> {
        if self.left.len() < len {
            return Err(bad(format!("{name}: {len} words expected, {} left", self.left.len())));
        }
        let (head, tail) = self.left.split_at(len);
        self.left = tail;
        Ok(head)
    }
}

fn bad(mut message: String) -> Failure {
    message.insert_str(0, "step: ");
    Failure::internal(message)
}

fn count(word: i32, most: usize, name: &str) -> Result<usize> {
    usize::try_from(word)
        .ok()
        .filter(|&n| n <= most)
        .ok_or_else(|| bad(format!("{name} is {word}, allowed is 0 to {most}")))
}

impl Step {
    /// Checks the flat array.
    ///
    /// # Errors
    /// `internal`, naming the field, what it holds and what is allowed.
    pub fn parse(words: &[i32], limits: &Limits) -> Result<Self> {
        let mut words = Words { left: words };
        let header = words.take(HEADER_WORDS, "header")?;
        if header[0] != VERSION {
            return Err(bad(format!("version is {}, this build reads {VERSION}", header[0])));
        }
        let num_tokens = count(header[2], limits.max_tokens, "number of tokens")?;
        let num_rows = count(header[3], limits.max_rows, "number of rows")?;
        let num_groups = count(header[4], limits.num_groups, "number of groups")?;
        if num_groups != limits.num_groups {
            return Err(bad(format!(
                "number of groups is {num_groups}, the model has {}",
                limits.num_groups
            )));
        }
        let num_samples = count(header[5], num_tokens, "number of samples")?;
        let blocks_per_row = limits.max_model_len.div_ceil(limits.block_size);
        let num_entries =
            count(header[6], num_rows * num_groups * blocks_per_row, "number of block-table entries")?;

        let tokens = words.take(num_tokens, "tokens")?;
        if let Some(token) =
            tokens.iter().find(|&&t| t != FROM_SEAT && (t < 0 || t as usize >= limits.vocab_size))
        {
            return Err(bad(format!("token id {token} is outside 0..{}", limits.vocab_size)));
        }
        let seats = words.take(num_rows, "seats")?;
        let first = words.take(num_rows + 1, "firstToken")?;
        let start = words.take(num_rows, "startPosition")?;
        let samples = words.take(num_samples, "sampleTokens")?;
        let tables = words.take(num_groups * num_rows + 1, "tableStart")?;
        let blocks = words.take(num_entries, "blocks")?;
        if !words.left.is_empty() {
            return Err(bad(format!("{} words after the last array", words.left.len())));
        }

        let mut step = Self {
            id: header[1],
            tokens: tokens.to_vec(),
            positions: Vec::with_capacity(num_tokens),
            rows: Vec::with_capacity(num_rows),
            row_of_token: Vec::with_capacity(num_tokens),
            samples: Vec::with_capacity(num_samples),
            blocks: blocks.to_vec(),
            table_start: Vec::with_capacity(tables.len()),
        };
        if let Some(block) = blocks.iter().find(|&&b| b < 0 || b as usize >= limits.num_blocks) {
            return Err(bad(format!("block id {block} is outside 0..{}", limits.num_blocks)));
        }
        step.read_rows(seats, first, start, limits)?;
        step.read_samples(samples)?;
        step.read_tables(tables, num_groups, limits)?;
        Ok(step)
    }

    fn read_rows(&mut self, seats: &[i32], first: &[i32], start: &[i32], limits: &Limits) -> Result<()> {
        let mut seen = vec![false; limits.max_rows];
        let num_tokens = self.tokens.len();
        if first[0] != 0 || first[seats.len()] as usize != num_tokens {
            return Err(bad(format!("firstToken must run from 0 to {num_tokens}")));
        }
        for (r, &seat) in seats.iter().enumerate() {
            let seat = count(seat, limits.max_rows - 1, "seat")?;
            if std::mem::replace(&mut seen[seat], true) {
                return Err(bad(format!("seat {seat} is in two rows")));
            }
            let begin = count(first[r], num_tokens, "firstToken")?;
            let end = count(first[r + 1], num_tokens, "firstToken")?;
            if end <= begin {
                return Err(bad(format!("row {r} has no token")));
            }
            let start = count(start[r], limits.max_model_len, "startPosition")?;
            if start + (end - begin) > limits.max_model_len {
                return Err(bad(format!("row {r} ends past position {}", limits.max_model_len)));
            }
            self.rows.push(Row { seat, first: begin, len: end - begin, start });
            self.positions.extend((start..start + end - begin).map(|p| p as u32));
            self.row_of_token.extend(std::iter::repeat_n(r as u32, end - begin));
        }
        Ok(())
    }

    fn read_samples(&mut self, samples: &[i32]) -> Result<()> {
        let mut after = 0;
        for &sample in samples {
            let sample = count(sample, self.tokens.len().saturating_sub(1), "sampleTokens")?;
            if sample < after {
                return Err(bad("sampleTokens must ascend".into()));
            }
            after = sample + 1;
            self.samples.push(sample as u32);
        }
        Ok(())
    }

    fn read_tables(&mut self, tables: &[i32], num_groups: usize, limits: &Limits) -> Result<()> {
        let num_entries = self.blocks.len();
        for &at in tables {
            self.table_start.push(count(at, num_entries, "tableStart")?);
        }
        if self.table_start[0] != 0 || self.table_start.last() != Some(&num_entries) {
            return Err(bad(format!("tableStart must run from 0 to {num_entries}")));
        }
        if self.table_start.is_sorted() {
            for group in 0..num_groups {
                for (r, row) in self.rows.iter().enumerate() {
                    let table = self.table(group, r);
                    let needed = (row.start + row.len).div_ceil(limits.block_size);
                    if table.len() < needed {
                        return Err(bad(format!(
                            "row {r} needs {needed} blocks, its table has {}",
                            table.len()
                        )));
                    }
                    if table[row.start / limits.block_size..needed].contains(&0) {
                        return Err(bad(format!("row {r} would write to the null block")));
                    }
                }
            }
            Ok(())
        } else {
            Err(bad("tableStart must not descend".into()))
        }
    }

    /// Block ids of a row in a group; entry `i` covers positions `i * block_size..`.
    pub fn table(&self, group: usize, row: usize) -> &[i32] {
        let at = group * self.rows.len() + row;
        &self.blocks[self.table_start[at]..self.table_start[at + 1]]
    }

    /// How many rows a value of this step has.
    pub fn rows_of(&self, rows: crate::op::Rows) -> usize {
        match rows {
            crate::op::Rows::Tokens => self.tokens.len(),
            crate::op::Rows::Samples => self.samples.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, StepWords};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        max_tokens: 8,
        max_rows: 2,
        max_model_len: 64,
        block_size: 16,
        num_groups: 2,
        num_blocks: 17,
        vocab_size: 100,
    };

    fn words(rows: &[(usize, usize, &[i32])], samples: &[usize]) -> Vec<i32> {
        let words = StepWords {
            id: 9,
            rows: rows.to_vec(),
            samples: samples.to_vec(),
            block_size: 16,
            blocks_per_seat: 4,
            num_groups: 2,
        };
        words.words()
    }

    fn valid() -> Vec<i32> {
        words(&[(1, 15, &[1, 2, 3]), (0, 0, &[FROM_SEAT])], &[2, 3])
    }

    /// Where the arrays of [`valid`] begin: tokens, seats, firstToken, startPosition, samples, tableStart, blocks.
    const TOKENS: usize = 8;
    const SEATS: usize = 12;
    const FIRST: usize = 14;
    const START: usize = 17;
    const SAMPLES: usize = 19;
    const TABLES: usize = 21;
    const BLOCKS: usize = 26;

    fn fails(at: usize, word: i32, with: &str) {
        let mut words = valid();
        words[at] = word;
        let failure = Step::parse(&words, &LIMITS).expect_err(with);
        assert!(failure.message.contains(with), "{}", failure.message);
    }

    fn passes(at: usize, word: i32) {
        let mut words = valid();
        words[at] = word;
        Step::parse(&words, &LIMITS).unwrap();
    }

    #[test]
    fn a_valid_step_is_read_whole() {
        let step = Step::parse(&valid(), &LIMITS).unwrap();
        assert_eq!(step.id, 9);
        assert_eq!(step.positions, [15, 16, 17, 0]);
        assert_eq!(step.row_of_token, [0, 0, 0, 1]);
        assert_eq!(step.rows[1], Row { seat: 0, first: 3, len: 1, start: 0 });
        assert_eq!(step.table(0, 0).len(), 2);
        assert_eq!(step.table(1, 1).len(), 1);
    }

    #[test]
    fn an_empty_step_is_valid() {
        let step = Step::parse(&words(&[], &[]), &LIMITS).unwrap();
        assert!(step.tokens.is_empty() && step.rows.is_empty());
    }

    #[test]
    fn counts_are_held_to_their_limits() {
        Step::parse(&words(&[(0, 0, &[1; 8])], &[0, 1, 2, 3, 4, 5, 6, 7]), &LIMITS).unwrap();
        for (words, with) in [
            (words(&[(0, 0, &[1; 9])], &[]), "number of tokens is 9, allowed is 0 to 8"),
            (
                words(&[(0, 0, &[1]), (1, 0, &[1]), (2, 0, &[1])], &[]),
                "number of rows is 3, allowed is 0 to 2",
            ),
        ] {
            assert!(Step::parse(&words, &LIMITS).unwrap_err().message.contains(with));
        }
        fails(0, 2, "version is 2");
        fails(2, -1, "number of tokens is -1");
        fails(3, -1, "number of rows is -1");
        fails(4, 1, "number of groups is 1, the model has 2");
        fails(4, 3, "number of groups is 3");
        fails(5, 5, "number of samples is 5, allowed is 0 to 4");
        fails(6, i32::MAX, "number of block-table entries");
        fails(6, 7, "words");
    }

    #[test]
    fn indices_are_held_to_both_ends() {
        passes(TOKENS, 0);
        passes(TOKENS, 99);
        fails(TOKENS, 100, "token id 100 is outside 0..100");
        fails(TOKENS, -2, "token id -2");
        fails(SEATS, 2, "seat is 2, allowed is 0 to 1");
        fails(SEATS, -1, "seat is -1");
        fails(SEATS, 0, "seat 0 is in two rows");
        fails(FIRST, 1, "firstToken must run from 0 to 4");
        fails(FIRST + 1, 0, "row 0 has no token");
        fails(FIRST + 1, 4, "row 1 has no token");
        fails(FIRST + 1, -1, "firstToken is -1");
        fails(FIRST + 1, 5, "firstToken is 5");
        fails(FIRST + 2, 3, "firstToken must run");
        fails(START, -1, "startPosition is -1");
        fails(START, 62, "row 0 ends past position 64");
        fails(START, 30, "row 0 needs 3 blocks, its table has 2");
        fails(SAMPLES, -1, "sampleTokens is -1");
        fails(SAMPLES, 3, "sampleTokens must ascend");
        fails(SAMPLES + 1, 4, "sampleTokens is 4");
        fails(TABLES, 1, "tableStart must run");
        fails(TABLES + 1, 4, "tableStart must not descend");
        fails(TABLES + 1, -1, "tableStart is -1");
        fails(TABLES + 4, 5, "tableStart must run");
        passes(BLOCKS, 16);
        fails(BLOCKS, 17, "block id 17 is outside 0..17");
        fails(BLOCKS, -1, "block id -1");
        fails(BLOCKS, 0, "row 0 would write to the null block");
    }

    #[test]
    fn a_block_before_the_first_position_may_be_null() {
        let mut words = words(&[(1, 16, &[1])], &[]);
        let first_block = words.len() - 4;
        words[first_block] = 0;
        Step::parse(&words, &LIMITS).unwrap();
    }

    #[test]
    fn every_cut_and_every_surplus_is_an_error() {
        let words = valid();
        for len in 0..words.len() {
            assert!(Step::parse(&words[..len], &LIMITS).is_err(), "{len} words");
        }
        assert!(Step::parse(&[words, vec![0]].concat(), &LIMITS).is_err());
    }

    proptest! {
        #[test]
        fn changed_words_never_panic_and_what_passes_is_in_bounds(seed: u64, changes in 1_usize..4) {
            let mut random = Random(seed);
            let mut words = valid();
            for _ in 0..changes {
                let at = random.below(words.len());
                words[at] = match random.below(4) {
                    0 => random.next() as i32,
                    1 => i32::MIN,
                    2 => i32::MAX,
                    _ => random.below(20) as i32 - 2,
                };
            }
            if let Ok(step) = Step::parse(&words, &LIMITS) {
                prop_assert!(step.positions.iter().all(|&p| (p as usize) < LIMITS.max_model_len));
                prop_assert!(step.samples.iter().all(|&s| (s as usize) < step.tokens.len()));
                prop_assert_eq!(step.row_of_token.len(), step.tokens.len());
                for group in 0..2 {
                    for (token, &row) in step.row_of_token.iter().enumerate() {
                        let block = step.table(group, row as usize)[step.positions[token] as usize / 16];
                        prop_assert!(block > 0 && (block as usize) < LIMITS.num_blocks);
                    }
                }
            }
        }
    }
}
