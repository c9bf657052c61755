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
    let words =
        StepWords { id: 9, rows: rows.to_vec(), samples: samples.to_vec(), block_size: 16, blocks_per_seat: 4, num_groups: 2 };
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
        (words(&[(0, 0, &[1]), (1, 0, &[1]), (2, 0, &[1])], &[]), "number of rows is 3, allowed is 0 to 2"),
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
