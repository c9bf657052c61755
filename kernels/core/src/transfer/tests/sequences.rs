//! Flights beside a runner whose steps fill and read the pages.
#![expect(unsafe_code, reason = "looks into pages")]

use super::{options, tag_of, told, wait_for_pages};
use crate::dtype::DType;
use crate::program::{Program, ProgramSpec};
use crate::runner::{Runner, StepResult};
use crate::testing::{TinyModel, computing, greedy, step_words};
use crate::transfer::{FlightResult, TransferOptions, Transfers};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A step of one sequence whose blocks are those of a seat.
fn step(id: i32, seat: usize, start: usize, tokens: &[i32], samples: &[usize]) -> Vec<i32> {
    step_words(id, &[(seat, start, tokens)], samples).words()
}

/// Blocks of the sequence in `words`, which has one row and one group.
fn table(words: &[i32], entries: usize) -> Vec<i32> {
    words[words.len() - entries..].to_vec()
}

/// The next flight to end. There is news without one too: of the pool that has grown.
fn ended(transfers: &Transfers, news: &Receiver<()>) -> FlightResult {
    loop {
        news.recv().unwrap();
        if let Some(result) = transfers.take_results().pop() {
            return result;
        }
    }
}

/// Computes a prompt in the blocks of one seat, moves them through the host to those of another and asks for the next token.
fn continued_elsewhere(spec: &ProgramSpec, prompt: &[i32], moved: bool) -> i32 {
    let (send, results) = mpsc::channel();
    let runner = Runner::create(spec, Box::new(move |result| send.send(result).unwrap())).unwrap();
    let (tell, news) = mpsc::channel();
    let transfers = runner.open_transfers(&options(8), told(tell)).expect("transfers");
    wait_for_pages(&transfers);
    (0..3).for_each(|seat| runner.open_seat(seat, greedy(), &[], None).unwrap());
    let (last, known) = prompt.split_last().unwrap();
    let fill = step(0, 1, 0, known, &[]);
    let entries = known.len().div_ceil(spec.block_size as usize);
    let pages: Vec<i32> = (0..entries as i32).rev().collect();
    let next = step(2, 2, known.len(), &[*last], &[0]);
    if moved {
        transfers.store(1, &table(&fill, entries), &pages, 0).unwrap();
    }
    runner.submit(fill).unwrap();
    // What the blocks held before they are loaded must not matter.
    runner.submit(step(1, 2, 0, &[5; 70], &[])).unwrap();
    if moved {
        assert!(ended(&transfers, &news).ok());
        transfers.load(2, &pages, &table(&next, entries), 1).unwrap();
        assert!(ended(&transfers, &news).ok());
    }
    runner.submit(next).unwrap();
    let token = results.iter().nth(2).expect("three steps").sampled[0].token;
    assert!(transfers.stop(Duration::MAX));
    runner.stop().unwrap().join().unwrap();
    token
}

#[test]
fn a_sequence_goes_on_from_pages_that_were_moved_on_every_backend() {
    let prompt: Vec<i32> = (0..45).map(|i| (i * 31 + 7) % 96).collect();
    for backend in ["reference", "cpu", "witness"] {
        let mut model = TinyModel::new(backend, DType::F32);
        if backend == "witness" {
            model.spec.vocab_size = 1 << 20;
        }
        let (send, results) = mpsc::channel();
        let runner = Runner::create(&model.spec, Box::new(move |result| send.send(result).unwrap())).unwrap();
        runner.open_seat(0, greedy(), &[], None).unwrap();
        runner.submit(step(0, 0, 0, &prompt, &[prompt.len() - 1])).unwrap();
        let expected = results.recv().unwrap().sampled[0].token;
        assert_eq!(continued_elsewhere(&model.spec, &prompt, true), expected, "{backend}");
        if backend == "witness" {
            assert_ne!(continued_elsewhere(&model.spec, &prompt, false), expected);
        }
    }
}

/// A witness whose steps are run one at a time, beside its transfers.
fn witness(options: &TransferOptions) -> (Runner, Receiver<StepResult>, Transfers, Receiver<()>) {
    let model = TinyModel::new("witness", DType::F32);
    let (send, results) = mpsc::channel();
    let runner = Runner::create(&model.spec, Box::new(move |result| send.send(result).unwrap())).unwrap();
    let (tell, news) = mpsc::channel();
    let transfers = runner.open_transfers(options, told(tell)).unwrap();
    wait_for_pages(&transfers);
    (runner, results, transfers, news)
}

#[test]
fn a_guarded_step_that_breaks_the_rule_fails_with_the_block() {
    let options = TransferOptions { manual: true, guard_steps: true, ..options(4) };
    let (runner, results, transfers, news) = witness(&options);
    let run = |words: Vec<i32>| {
        runner.submit(words).unwrap();
        results.recv().unwrap().error.map(|failure| failure.message)
    };
    let fill = || step(0, 1, 0, &[1; 20], &[]);
    let [full, partial] = table(&fill(), 2)[..] else { panic!("two blocks") };
    let more = || step(1, 1, 20, &[1], &[]);
    assert_eq!(run(fill()), None);
    transfers.store(1, &[full], &[0], -1).unwrap();
    transfers.store(2, &[partial], &[1], -1).unwrap();
    // Flights that have not started are nobody's business.
    assert_eq!(run(more()), None);
    assert!(transfers.begin(1));
    assert_eq!(run(more()), None);
    assert!(transfers.begin(2));
    let written = format!("step 1 and a flight use one block: block {partial} is being read elsewhere");
    assert_eq!(run(more()), Some(written));
    for id in [1, 2] {
        assert!(transfers.run(id, Some(&[])).unwrap());
        assert!(ended(&transfers, &news).ok());
    }
    assert_eq!(run(more()), None);
    transfers.load(3, &[0], &[full], -1).unwrap();
    assert!(transfers.begin(3));
    let read = format!("step 1 and a flight use one block: block {full} is being written elsewhere");
    assert_eq!(run(more()), Some(read));
}

#[test]
fn a_failed_step_lets_its_flights_go_too() {
    let (runner, results, transfers, news) = witness(&options(4));
    transfers.store(1, &[1], &[1], 3).unwrap();
    let mut broken = step(3, 0, 0, &[1], &[]);
    broken[0] = 99;
    runner.submit(broken).unwrap();
    assert!(results.recv().unwrap().error.is_some());
    assert!(ended(&transfers, &news).ok());
}

#[test]
fn pages_outlive_the_program() {
    let model = TinyModel::new("null", DType::F32);
    let program = Program::compile(&model.spec).unwrap();
    let pages = program.pages().clone();
    assert_eq!(pages.page_bytes(), 64);
    drop(program);
    // SAFETY: nobody else has them any more.
    assert_eq!(tag_of(unsafe { pages.page(1) }), 0);
}

/// With pages in memory and with pages on a device, which copies by itself.
#[test]
fn pages_that_went_to_the_host_and_back_into_other_blocks_give_the_same_logits() {
    let tokens: Vec<i32> = (0..40).map(|i| (i * 31 + 7) % 96).collect();
    let last_words = |words: Vec<i32>| words[words.len() - 3..].to_vec();
    for backend in computing() {
        let model = TinyModel::new(backend, DType::F16);
        let runner = Runner::create(&model.spec, Box::new(|_| ())).unwrap();
        let (tell, news) = mpsc::channel();
        let transfers = runner.open_transfers(&options(16), told(tell)).unwrap();
        wait_for_pages(&transfers);
        let logits = |words: Vec<i32>| runner.logits(words).unwrap().recv().unwrap().unwrap();
        let moved = |id: i64| {
            let result = loop {
                news.recv().unwrap();
                if let Some(result) = transfers.take_results().pop() {
                    break result;
                }
            };
            assert!(result.ok() && result.id == id, "{backend}: {result:?}");
        };
        let own = step_words(0, &[(1, 0, &tokens)], &[39]).words();
        let other = step_words(0, &[(2, 39, &tokens[39..])], &[0]).words();
        let expected = logits(own.clone());
        transfers.store(1, &last_words(own), &[5, 0, 9], -1).unwrap();
        moved(1);
        transfers.load(2, &[5, 0, 9], &last_words(other.clone()), -1).unwrap();
        moved(2);
        assert_eq!(logits(other), expected, "{backend}");
        assert!(transfers.stop(Duration::MAX));
        runner.stop().unwrap().join().unwrap();
    }
}
