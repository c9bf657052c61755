//! One step's input: which tokens of which sequences to compute, in which KV blocks. It arrives as one flat array of
//! i32 written by `engine/scheduler/batch.ts`; every index is checked here once, so kernels need not.
//!
//! ```text
//! 0 version (2)   1 step id, its lowest 31 bits   2 N tokens   3 R rows   4 G groups   5 S samples
//! 6 B block-table entries   7 C copies
//! tokens[N]          token ids; -1 = the token last sampled for the row's seat
//! seats[R]           the sampler seat of each row, no seat twice
//! firstToken[R+1]    row r owns tokens firstToken[r]..firstToken[r+1], at least one
//! startPosition[R]   position of the row's first token = length of the present KV prefix
//! sampleTokens[S]    indices into tokens, ascending: positions whose logits are wanted
//! sampleTargets[S]   -1 = pick a token for the row's seat; else only this token's log-probability is reported
//! tableStart[G*R+1]  block table of (group g, row r) = blocks[tableStart[g*R+r]..tableStart[g*R+r+1]]
//! blocks[B]          entry i of a table covers positions i*blockSize..; 0 = the null block, where no token needs it
//! copies[2*C]        pairs (from block, to block): whole pages copied, in order, before the step computes anything
//! ```
//!
//! Picks of a row stand on consecutive tokens up to the row's last: the newest known token, then drafts of what follows
//! it. See [`crate::picks`].

use crate::arena::{GroupKind, KvGroup};
use crate::error::{Failure, Result};

/// Version word of the layout above.
pub const VERSION: i32 = 2;
/// Words before the arrays.
pub const HEADER_WORDS: usize = 8;
/// Token id that stands for "the token last sampled for this row's seat".
pub const FROM_SEAT: i32 = -1;
/// Target that stands for "pick a token".
pub const PICK: i32 = -1;

/// What the indices of a step are checked against.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most tokens in a step.
    pub max_tokens: usize,
    /// Most rows (sequences) in a step; also the number of seats.
    pub max_rows: usize,
    /// Most sampled positions in a step that runs whole.
    pub max_samples: usize,
    /// Highest position + 1.
    pub max_model_len: usize,
    /// Tokens of a KV block.
    pub block_size: usize,
    /// KV groups of the model.
    pub groups: Vec<KvGroup>,
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

/// The samples of a row that pick a token, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPicks {
    /// The row.
    pub row: usize,
    /// First one's index in [`Step::samples`].
    pub first: usize,
    /// Number of them: 1 and one for each draft.
    pub len: usize,
}

/// A checked step. One object is read into again and again.
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
    /// Of each sample: the token to report, or [`PICK`].
    pub targets: Vec<i32>,
    /// Rows that pick.
    pub picks: Vec<RowPicks>,
    /// Block ids of all tables.
    pub blocks: Vec<i32>,
    /// Pages to copy first: from, to.
    pub copies: Vec<[i32; 2]>,
    table_start: Vec<usize>,
    seen_seats: Vec<bool>,
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

/// Holds all words to `from..end`.
fn within(words: &[i32], from: i32, end: usize, name: &str) -> Result<()> {
    let last = end as i32 - 1;
    // A word outside makes one of the differences negative, also where the other wraps. There are thousands of words in a
    // step: without an early end the loop is vectorised.
    let signs = words.iter().fold(0, |signs, &w| signs | w.wrapping_sub(from) | last.wrapping_sub(w));
    if signs >= 0 {
        return Ok(());
    }
    let outside = words.iter().copied().find(|w| !(from..=last).contains(w)).unwrap_or_default();
    Err(bad(format!("{name} {outside} is outside {from}..{end}")))
}

/// First entry of a row's table that its tokens read or write.
fn first_needed(group: &KvGroup, start: usize, block_size: usize) -> usize {
    let position = match group.kind {
        GroupKind::Full => 0,
        GroupKind::Window => (start + 1).saturating_sub(group.window as usize),
        // The running state after position start - 1.
        GroupKind::State => start.saturating_sub(1),
    };
    position / block_size
}

impl Step {
    /// Checks the flat array and makes a step of it.
    ///
    /// # Errors
    /// `internal`, naming the field, what it holds and what is allowed.
    pub fn parse(words: &[i32], limits: &Limits) -> Result<Self> {
        let mut step = Self::default();
        step.read(words, limits)?;
        Ok(step)
    }

    /// As [`Self::parse`], in the memory of the step before. After an error the content is of no use.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(&mut self, words: &[i32], limits: &Limits) -> Result<()> {
        let mut words = Words { left: words };
        let header = words.take(HEADER_WORDS, "header")?;
        if header[0] != VERSION {
            return Err(bad(format!("version is {}, this build reads {VERSION}", header[0])));
        }
        let num_tokens = count(header[2], limits.max_tokens, "number of tokens")?;
        let num_rows = count(header[3], limits.max_rows, "number of rows")?;
        let num_groups = limits.groups.len();
        if header[4] != num_groups as i32 {
            return Err(bad(format!("number of groups is {}, the model has {num_groups}", header[4])));
        }
        let num_samples = count(header[5], num_tokens, "number of samples")?;
        let blocks_per_row = limits.max_model_len.div_ceil(limits.block_size);
        let num_entries =
            count(header[6], num_rows * num_groups * blocks_per_row, "number of block-table entries")?;
        let num_copies = count(header[7], limits.num_blocks, "number of copies")?;

        self.id = header[1];
        copy(&mut self.tokens, words.take(num_tokens, "tokens")?);
        within(&self.tokens, FROM_SEAT, limits.vocab_size, "token id")?;
        let seats = words.take(num_rows, "seats")?;
        let first = words.take(num_rows + 1, "firstToken")?;
        let start = words.take(num_rows, "startPosition")?;
        self.read_rows(seats, first, start, limits)?;
        let samples = words.take(num_samples, "sampleTokens")?;
        copy(&mut self.targets, words.take(num_samples, "sampleTargets")?);
        within(&self.targets, PICK, limits.vocab_size, "sampleTargets: token id")?;
        self.read_samples(samples)?;
        let tables = words.take(num_groups * num_rows + 1, "tableStart")?;
        copy(&mut self.blocks, words.take(num_entries, "blocks")?);
        within(&self.blocks, 0, limits.num_blocks, "block id")?;
        self.read_tables(tables, limits)?;
        let copies = words.take(2 * num_copies, "copies")?;
        within(copies, 1, limits.num_blocks, "copies: block id")?;
        copy(&mut self.copies, copies.as_chunks().0);
        if words.left.is_empty() {
            Ok(())
        } else {
            Err(bad(format!("{} words after the last array", words.left.len())))
        }
    }

    fn read_rows(&mut self, seats: &[i32], first: &[i32], start: &[i32], limits: &Limits) -> Result<()> {
        let num_tokens = self.tokens.len();
        if first[0] != 0 || first[seats.len()] as usize != num_tokens {
            return Err(bad(format!("firstToken must run from 0 to {num_tokens}")));
        }
        self.seen_seats.clear();
        self.seen_seats.resize(limits.max_rows, false);
        self.rows.clear();
        self.positions.clear();
        self.row_of_token.clear();
        for (r, &seat) in seats.iter().enumerate() {
            let seat = count(seat, limits.max_rows - 1, "seat")?;
            if std::mem::replace(&mut self.seen_seats[seat], true) {
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
        self.samples.clear();
        self.picks.clear();
        let mut after = 0;
        for (i, &sample) in samples.iter().enumerate() {
            let sample = count(sample, self.tokens.len().saturating_sub(1), "sampleTokens")?;
            if sample < after {
                return Err(bad("sampleTokens must ascend".into()));
            }
            after = sample + 1;
            self.samples.push(sample as u32);
            if self.targets[i] != PICK {
                continue;
            }
            let row = self.row_of_token[sample] as usize;
            match self.picks.last_mut() {
                Some(picks) if picks.row == row => picks.len += 1,
                _ => self.picks.push(RowPicks { row, first: i, len: 1 }),
            }
            let last = sample + 1 == self.rows[row].first + self.rows[row].len;
            let followed = samples.get(i + 1) == Some(&(sample as i32 + 1)) && self.targets[i + 1] == PICK;
            if !last && !followed {
                return Err(bad(format!("row {row} picks at token {sample}, but not at the one after it")));
            }
        }
        Ok(())
    }

    fn read_tables(&mut self, tables: &[i32], limits: &Limits) -> Result<()> {
        let num_entries = self.blocks.len();
        self.table_start.clear();
        for &at in tables {
            self.table_start.push(count(at, num_entries, "tableStart")?);
        }
        if self.table_start[0] != 0 || self.table_start.last() != Some(&num_entries) {
            return Err(bad(format!("tableStart must run from 0 to {num_entries}")));
        }
        if !self.table_start.is_sorted() {
            return Err(bad("tableStart must not descend".into()));
        }
        for (g, group) in limits.groups.iter().enumerate() {
            for (r, row) in self.rows.iter().enumerate() {
                let table = self.table(g, r);
                let needed = (row.start + row.len).div_ceil(limits.block_size);
                if table.len() < needed {
                    let has = table.len();
                    return Err(bad(format!(
                        "row {r} needs {needed} blocks in group {g}, its table has {has}"
                    )));
                }
                let from = first_needed(group, row.start, limits.block_size);
                let nulls = table[from..needed].iter().fold(0, |nulls, &block| nulls | i32::from(block == 0));
                if nulls != 0 {
                    return Err(bad(format!(
                        "row {r} needs blocks {from}..{needed} in group {g}, one of them is the null block"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Block ids of a row in a group; entry `i` covers positions `i * block_size..`.
    pub fn table(&self, group: usize, row: usize) -> &[i32] {
        let at = group * self.rows.len() + row;
        &self.blocks[self.table_start[at]..self.table_start[at + 1]]
    }

    /// Where a row's table in a group begins in [`Self::blocks`].
    pub fn table_start(&self, group: usize, row: usize) -> usize {
        self.table_start[group * self.rows.len() + row]
    }

    /// The row that a sample belongs to.
    pub fn row_of_sample(&self, sample: usize) -> &Row {
        &self.rows[self.row_of_token[self.samples[sample] as usize] as usize]
    }

    /// How many rows a value of this step has.
    pub fn rows_of(&self, rows: crate::op::Rows) -> usize {
        match rows {
            crate::op::Rows::Tokens => self.tokens.len(),
            crate::op::Rows::Samples => self.samples.len(),
        }
    }
}

fn copy<T: Copy>(to: &mut Vec<T>, from: &[T]) {
    to.clear();
    to.extend_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, StepWords, full_group, targets};
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            max_tokens: 8,
            max_rows: 2,
            max_samples: 8,
            max_model_len: 64,
            block_size: 16,
            groups: vec![full_group(1, 1, 8); 2],
            num_blocks: 17,
            vocab_size: 100,
        }
    }

    fn words(rows: &[(usize, usize, &[i32])], samples: &[usize]) -> Vec<i32> {
        let words = StepWords {
            id: 9,
            rows: rows.to_vec(),
            samples: samples.to_vec(),
            block_size: 16,
            blocks_per_seat: 4,
            windows: vec![0; 2],
            targets: targets(rows, samples),
            copies: vec![3, 4, 4, 16],
        };
        words.words()
    }

    fn valid() -> Vec<i32> {
        words(&[(1, 15, &[1, 2, 3]), (0, 0, &[FROM_SEAT])], &[2, 3])
    }

    /// Where the arrays of [`valid`] begin: tokens, seats, firstToken, startPosition, samples, targets, tableStart,
    /// blocks, copies.
    const TOKENS: usize = 8;
    const SEATS: usize = 12;
    const FIRST: usize = 14;
    const START: usize = 17;
    const SAMPLES: usize = 19;
    const TARGETS: usize = 21;
    const TABLES: usize = 23;
    const BLOCKS: usize = 28;
    const COPIES: usize = 34;

    fn fails(at: usize, word: i32, with: &str) {
        let mut words = valid();
        words[at] = word;
        let failure = Step::parse(&words, &limits()).expect_err(with);
        assert!(failure.message.contains(with), "{}", failure.message);
    }

    fn passes(at: usize, word: i32) {
        let mut words = valid();
        words[at] = word;
        Step::parse(&words, &limits()).unwrap();
    }

    #[test]
    fn a_valid_step_is_read_whole() {
        let step = Step::parse(&valid(), &limits()).unwrap();
        assert_eq!(step.id, 9);
        assert_eq!(step.positions, [15, 16, 17, 0]);
        assert_eq!(step.row_of_token, [0, 0, 0, 1]);
        assert_eq!(step.rows[1], Row { seat: 0, first: 3, len: 1, start: 0 });
        assert_eq!(step.table(0, 0).len(), 2);
        assert_eq!(step.table(1, 1).len(), 1);
        assert_eq!(
            step.picks,
            [RowPicks { row: 0, first: 0, len: 1 }, RowPicks { row: 1, first: 1, len: 1 }]
        );
        assert_eq!(step.copies, [[3, 4], [4, 16]]);
    }

    #[test]
    fn an_empty_step_is_valid() {
        let step = Step::parse(&words(&[], &[]), &limits()).unwrap();
        assert!(step.tokens.is_empty() && step.rows.is_empty());
    }

    #[test]
    fn counts_are_held_to_their_limits() {
        Step::parse(&words(&[(0, 0, &[1; 8])], &[0, 1, 2, 3, 4, 5, 6, 7]), &limits()).unwrap();
        for (words, with) in [
            (words(&[(0, 0, &[1; 9])], &[]), "number of tokens is 9, allowed is 0 to 8"),
            (
                words(&[(0, 0, &[1]), (1, 0, &[1]), (2, 0, &[1])], &[]),
                "number of rows is 3, allowed is 0 to 2",
            ),
        ] {
            assert!(Step::parse(&words, &limits()).unwrap_err().message.contains(with));
        }
        fails(0, 1, "version is 1, this build reads 2");
        fails(2, -1, "number of tokens is -1");
        fails(3, -1, "number of rows is -1");
        fails(4, 1, "number of groups is 1, the model has 2");
        fails(4, 3, "number of groups is 3");
        fails(5, 5, "number of samples is 5, allowed is 0 to 4");
        fails(6, i32::MAX, "number of block-table entries");
        fails(6, 7, "tableStart must run from 0 to 7");
        fails(7, -1, "number of copies is -1, allowed is 0 to 17");
        fails(7, 18, "number of copies is 18");
        fails(7, 1, "2 words after the last array");
    }

    #[test]
    fn indices_are_held_to_both_ends() {
        passes(TOKENS, 0);
        passes(TOKENS, 99);
        fails(TOKENS, 100, "token id 100 is outside -1..100");
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
        fails(START, 30, "row 0 needs 3 blocks in group 0, its table has 2");
        fails(SAMPLES, -1, "sampleTokens is -1");
        fails(SAMPLES, 3, "sampleTokens must ascend");
        fails(SAMPLES + 1, 4, "sampleTokens is 4");
        passes(TARGETS, 99);
        fails(TARGETS, 100, "sampleTargets: token id 100 is outside -1..100");
        fails(TARGETS, -2, "sampleTargets: token id -2");
        fails(SAMPLES, 1, "row 0 picks at token 1, but not at the one after it");
        fails(TABLES, 1, "tableStart must run");
        fails(TABLES + 1, 4, "tableStart must not descend");
        fails(TABLES + 1, -1, "tableStart is -1");
        fails(TABLES + 4, 5, "tableStart must run");
        passes(BLOCKS, 16);
        fails(BLOCKS, 17, "block id 17 is outside 0..17");
        fails(BLOCKS, -1, "block id -1");
        fails(BLOCKS, 0, "row 0 needs blocks 0..2 in group 0, one of them is the null block");
        passes(COPIES, 16);
        fails(COPIES, 17, "copies: block id 17 is outside 1..17");
        fails(COPIES + 3, 0, "copies: block id 0");
    }

    /// Entries that may be null when one row of `len` tokens starts at `start`, of a table that covers all of them.
    fn may_be_null(kind: GroupKind, window: u32, start: usize, len: usize) -> Vec<usize> {
        let mut limits = limits();
        for group in &mut limits.groups {
            (group.kind, group.window) = (kind, window);
        }
        let tokens = vec![1; len];
        let words = words(&[(1, start, &tokens)], &[]);
        let entries = (start + len).div_ceil(16);
        let blocks = words.len() - 4 - 2 * entries;
        let optional = |entry: &usize| {
            [0, entries].into_iter().all(|group| {
                let mut words = words.clone();
                words[blocks + group + entry] = 0;
                Step::parse(&words, &limits).is_ok()
            })
        };
        (0..entries).filter(optional).collect()
    }

    #[test]
    fn entries_that_no_token_needs_may_be_null() {
        let none: [usize; 0] = [];
        for (start, len) in [(0, 1), (16, 1), (40, 8), (63, 1)] {
            assert_eq!(may_be_null(GroupKind::Full, 0, start, len), none);
        }
        // Position 32 with a window of 17 sees 16 and up, of 18 sees 15 and up.
        assert_eq!(may_be_null(GroupKind::Window, 17, 32, 1), [0]);
        assert_eq!(may_be_null(GroupKind::Window, 18, 32, 1), none);
        assert_eq!(may_be_null(GroupKind::Window, 1, 32, 1), [0, 1]);
        assert_eq!(may_be_null(GroupKind::Window, 1, 47, 2), [0, 1]);
        assert_eq!(may_be_null(GroupKind::Window, 100, 63, 1), none);
        // Position 32 reads the state after 31, position 33 the one after 32.
        assert_eq!(may_be_null(GroupKind::State, 0, 32, 1), [0]);
        assert_eq!(may_be_null(GroupKind::State, 0, 33, 1), [0, 1]);
        assert_eq!(may_be_null(GroupKind::State, 0, 0, 1), none);
    }

    #[test]
    fn drafts_pick_behind_the_newest_token_and_targets_stand_before_picks() {
        let mut words = words(&[(0, 0, &[1, 2, 3, 4]), (1, 0, &[5])], &[0, 2, 3, 4]);
        let (samples, targets) = (20, 24);
        for (at, targets_of, picks) in [
            (2, [7, PICK, PICK, PICK], vec![(0, 1, 2), (1, 3, 1)]),
            (2, [7, 8, 9, PICK], vec![(1, 3, 1)]),
            (1, [PICK, PICK, PICK, PICK], vec![]),
            (2, [PICK, PICK, PICK, PICK], vec![]),
            (2, [7, PICK, 9, PICK], vec![]),
        ] {
            words[samples + 1] = at;
            words[targets..targets + 4].copy_from_slice(&targets_of);
            let found = Step::parse(&words, &limits()).map(|step| step.picks);
            let picks: Vec<_> =
                picks.into_iter().map(|(row, first, len)| RowPicks { row, first, len }).collect();
            if picks.is_empty() {
                assert!(found.unwrap_err().message.contains("but not at the one after it"));
            } else {
                assert_eq!(found.unwrap(), picks);
            }
        }
    }

    #[test]
    fn memory_of_the_step_before_leaves_no_trace() {
        let (large, small) = (valid(), words(&[(1, 3, &[7])], &[0]));
        let mut step = Step::default();
        for words in [&large, &small, &vec![2; 20], &large] {
            let read = step.read(words, &limits());
            if let Ok(fresh) = Step::parse(words, &limits()) {
                read.unwrap();
                step.seen_seats.clone_from(&fresh.seen_seats);
                assert_eq!(format!("{step:?}"), format!("{fresh:?}"));
            }
        }
    }

    #[test]
    fn every_cut_and_every_surplus_is_an_error() {
        let words = valid();
        for len in 0..words.len() {
            assert!(Step::parse(&words[..len], &limits()).is_err(), "{len} words");
        }
        assert!(Step::parse(&[words, vec![0]].concat(), &limits()).is_err());
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
            if let Ok(step) = Step::parse(&words, &limits()) {
                prop_assert!(step.positions.iter().all(|&p| (p as usize) < limits().max_model_len));
                prop_assert!(step.samples.iter().all(|&s| (s as usize) < step.tokens.len()));
                prop_assert_eq!(step.row_of_token.len(), step.tokens.len());
                for group in 0..2 {
                    for (token, &row) in step.row_of_token.iter().enumerate() {
                        let block = step.table(group, row as usize)[step.positions[token] as usize / 16];
                        prop_assert!(block > 0 && (block as usize) < limits().num_blocks);
                    }
                }
            }
        }
    }
}
