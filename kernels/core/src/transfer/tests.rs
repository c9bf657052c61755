//! The threads, with real pages, and with a runner whose steps fill them.
#![expect(unsafe_code, reason = "looks into pages")]

use super::*;
use crate::disk::DiskOptions;
use crate::disk::testing::TestFolder;
use crate::dtype::DType;
use crate::program::{Program, ProgramSpec};
use crate::runner::{Runner, StepResult};
use crate::testing::{Random, TinyModel, computing, greedy, step_words};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};

const PAGE: usize = 1024;

fn options(host_pages: u32) -> TransferOptions {
    TransferOptions {
        host_pages,
        threads: 1,
        file_threads: 1,
        checksums: true,
        store_share: 1.0,
        link_bytes_per_second: 0.0,
        manual: false,
        guard_steps: false,
    }
}

/// Transfers between pages of the test's own, which stands for the device thread.
struct Lab {
    device: Pages,
    steps: Arc<StepGate>,
    transfers: Transfers,
    news: Receiver<()>,
    results: Vec<FlightResult>,
}

impl Lab {
    fn new(num_blocks: usize, options: &TransferOptions) -> Self {
        let device = Pages::map(PAGE, num_blocks).unwrap();
        let (steps, (tell, news)) = (Arc::default(), mpsc::channel());
        let transfers = Transfers::open(device.clone(), &steps, options, told(tell)).unwrap();
        wait_for_pages(&transfers);
        Self { device, steps, transfers, news, results: Vec::new() }
    }

    /// Writes a block as a step does.
    fn fill(&self, block: i32, tag: u8) {
        // SAFETY: the test lets no flight have the block that it fills.
        unsafe { self.device.page_mut(block as usize) }.fill(tag);
    }

    /// The one value that fills a block.
    fn block(&self, block: i32) -> u8 {
        // SAFETY: the test lets no flight write the block that it reads.
        tag_of(unsafe { self.device.page(block as usize) })
    }

    /// The one value that fills a host page.
    fn page(&self, page: i32) -> u8 {
        // SAFETY: as above.
        tag_of(unsafe { self.transfers.shared.copier.host.pages.page(page as usize) })
    }

    /// The next result.
    fn next(&mut self) -> FlightResult {
        while self.results.is_empty() {
            self.news.recv().unwrap();
            self.results = self.transfers.take_results();
        }
        self.results.remove(0)
    }
}

/// Tells a channel, as long as somebody listens.
fn told(tell: Sender<()>) -> OnResults {
    Box::new(move || {
        let _gone = tell.send(());
    })
}

fn wait_for_pages(transfers: &Transfers) {
    while transfers.num_ready() < transfers.num_pages() {
        std::thread::yield_now();
    }
}

fn tag_of(bytes: &[u8]) -> u8 {
    assert!(bytes.iter().all(|&byte| byte == bytes[0]), "a torn page: {bytes:?}");
    bytes[0]
}

#[test]
fn a_store_copies_what_its_step_has_written() {
    for threads in [1, 3] {
        let mut lab = Lab::new(8, &TransferOptions { threads, ..options(8) });
        for step in 0..300 {
            let tag = step as u8;
            lab.transfers.store(i64::from(step), &[1, 2], &[3, 4], i64::from(step)).unwrap();
            lab.fill(1, tag);
            lab.fill(2, !tag);
            lab.steps.finish(step);
            let result = lab.next();
            assert!(result.ok() && result.id == i64::from(step) && result.bytes == 2 * PAGE as u64);
            assert_eq!((lab.page(3), lab.page(4)), (tag, !tag));
        }
        assert!(lab.transfers.stop(Duration::MAX));
    }
}

#[test]
fn a_load_leaves_its_blocks_alone_until_its_step_has_ended() {
    let mut lab = Lab::new(8, &options(8));
    lab.fill(1, 7);
    lab.transfers.store(0, &[1], &[0], -1).unwrap();
    assert!(lab.next().ok());
    for step in 0..300 {
        lab.transfers.load(1, &[0], &[2], i64::from(step)).unwrap();
        lab.fill(2, 9);
        assert_eq!(lab.block(2), 9);
        lab.steps.finish(step);
        assert!(lab.next().ok());
        assert_eq!(lab.block(2), 7);
    }
}

#[test]
fn results_of_stores_wait_for_the_step_under_way_and_those_of_loads_do_not() {
    let mut lab = Lab::new(4, &options(4));
    let store = |lab: &Lab, id: i64| {
        lab.transfers.store(id, &[1], &[1], -1).unwrap();
        while lab.transfers.stats().pending > 0 {
            std::thread::yield_now();
        }
    };
    lab.steps.submitted();
    store(&lab, 1);
    assert!(lab.transfers.shared.lock().queue.announce(), "somebody was told before the end of the step");
    assert_eq!(lab.transfers.take_results().len(), 1);
    store(&lab, 2);
    lab.steps.finish(0);
    lab.steps.tell_news();
    assert_eq!(lab.next().id, 2);
    lab.steps.submitted();
    lab.transfers.load(3, &[1], &[2], -1).unwrap();
    assert_eq!(lab.next().id, 3);
    lab.steps.finish(1);
    store(&lab, 4);
    assert_eq!(lab.next().id, 4);
}

#[test]
fn a_slow_link_holds_a_flight_and_is_let_go() {
    let mut lab = Lab::new(4, &TransferOptions { link_bytes_per_second: 1e-3, ..options(4) });
    lab.transfers.store(1, &[1], &[1], -1).unwrap();
    while lab.transfers.cancel(1) {
        // It had not started yet.
        assert!(lab.next().cancelled);
        lab.transfers.store(1, &[1], &[1], -1).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(lab.transfers.stats().pending, 1);
    lab.transfers.set_link_bytes_per_second(0.0).unwrap();
    assert!(lab.next().ok());
}

#[test]
fn stores_without_a_share_wait_and_loads_pass_them() {
    let mut lab = Lab::new(4, &options(4));
    lab.transfers.store(1, &[1], &[1], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.set_store_share(0.0).unwrap();
    lab.transfers.store(2, &[1], &[2], -1).unwrap();
    lab.transfers.load(3, &[1], &[3], -1).unwrap();
    assert_eq!(lab.next().id, 3);
    assert_eq!(lab.transfers.stats().kinds[Kind::Store as usize].pending_bytes, PAGE as u64);
    lab.transfers.set_store_share(0.5).unwrap();
    assert_eq!(lab.next().id, 2);
}

#[test]
fn what_is_wrong_is_refused_by_name_and_changes_nothing() {
    let lab = Lab::new(4, &options(3));
    let refused = |result: Result<()>| result.unwrap_err().message;
    let transfers = &lab.transfers;
    for (message, expected) in [
        (refused(transfers.store(5, &[0], &[0], -1)), "flight 5: block 0, allowed is 1 to 3"),
        (refused(transfers.store(5, &[4], &[0], -1)), "flight 5: block 4, allowed is 1 to 3"),
        (refused(transfers.store(5, &[1], &[3], -1)), "flight 5: host page 3, allowed is 0 to 2"),
        (refused(transfers.load(5, &[-1], &[1], -1)), "flight 5: host page -1, allowed is 0 to 2"),
        (refused(transfers.load(5, &[0, 1], &[1], -1)), "flight 5: 2 host pages and 1 places"),
        (refused(transfers.load(5, &[], &[], -1)), "flight 5: 0 host pages and 0 places"),
        (
            refused(transfers.read_pages(5, file("x"), &[0.5], &KEYS[..9], &[0])),
            "flight 5: an offset is 0.5, allowed",
        ),
        (
            refused(transfers.read_pages(5, file("x"), &[-1.0], &KEYS[..9], &[0])),
            "flight 5: an offset is -1, allowed",
        ),
        (
            refused(transfers.write_pages(5, file("x"), &[f64::NAN], &KEYS[..9], &[0])),
            "flight 5: an offset is NaN",
        ),
        (refused(transfers.set_store_share(1.5)), "storeShare is 1.5, allowed is 0 to 1"),
        (refused(transfers.set_store_share(f64::NAN)), "storeShare is NaN"),
        (refused(transfers.set_link_bytes_per_second(-1.0)), "linkBytesPerSecond is -1, allowed is 0"),
        (refused(transfers.corrupt_page(3)), "host page 3, allowed is 0 to 2"),
    ] {
        assert!(message.starts_with(expected), "{message}\n  lacks: {expected}");
    }
    transfers.store(5, &[1], &[0], 9).unwrap();
    let message = refused(transfers.store(5, &[1], &[0], 9));
    assert_eq!(message, "flight 5 has not ended: its id is in use");
    assert_eq!(transfers.stats().pending, 1);
    for (change, expected) in [
        (TransferOptions { threads: 0, ..options(1) }, "threads is 0, allowed is 1 to 64"),
        (TransferOptions { threads: 65, ..options(1) }, "threads is 65, allowed is 1 to 64"),
        (TransferOptions { file_threads: 0, ..options(1) }, "fileThreads is 0, allowed is 1 to 64"),
        (TransferOptions { host_pages: u32::MAX, ..options(1) }, "hostPages is 4294967295, allowed is"),
        (TransferOptions { store_share: -0.1, ..options(1) }, "storeShare is -0.1, allowed is 0 to 1"),
    ] {
        let opened = Transfers::open(lab.device.clone(), &Arc::default(), &change, Box::new(|| ()));
        let message = opened.err().expect("refused").message;
        assert!(message.starts_with(expected), "{message}\n  lacks: {expected}");
    }
}

#[test]
fn a_pool_without_pages_holds_none() {
    let lab = Lab::new(4, &options(0));
    let message = lab.transfers.store(1, &[1], &[0], -1).unwrap_err().message;
    assert_eq!(message, "flight 1: host page 0, there is none");
    assert!(lab.transfers.stop(Duration::MAX));
}

#[test]
fn stopping_cancels_what_waits_lets_the_rest_end_and_refuses_what_comes() {
    let mut lab = Lab::new(8, &options(8));
    lab.fill(1, 5);
    lab.transfers.store(1, &[1], &[1], -1).unwrap();
    assert!(lab.next().ok());
    for id in 2..6 {
        lab.transfers.store(id, &[1], &[id as i32], 1000).unwrap();
    }
    assert!(lab.transfers.stop(Duration::MAX));
    let results: Vec<FlightResult> = (2..6).map(|_| lab.next()).collect();
    assert!(results.iter().all(|result| result.cancelled));
    assert_eq!(results.iter().map(|result| result.id).collect::<Vec<_>>(), [2, 3, 4, 5]);
    let message = lab.transfers.load(9, &[1], &[2], -1).unwrap_err().message;
    assert_eq!(message, "the transfers were stopped");
    assert!(lab.transfers.read_pages(9, file("x"), &[0.0], &KEYS[..9], &[1]).is_err());
    assert!(lab.transfers.stop(Duration::ZERO));
}

/// Three keys, as words.
const KEYS: [i32; 27] = [5; 27];

fn file(path: impl Into<PathBuf>) -> PageFile {
    PageFile::new(path.into(), "a model")
}

/// A file that blocks whoever opens it until its other end is opened.
fn pipe(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("kvengine-{name}-{}", std::process::id()));
    let c_path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a path that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(c_path.as_ptr(), 0o600) }, 0);
    path
}

#[test]
fn a_file_that_never_answers_holds_up_neither_copies_nor_the_end() {
    let path = pipe("stuck");
    let mut lab = Lab::new(8, &options(8));
    lab.fill(1, 5);
    lab.transfers.read_pages(1, file(&path), &[0.0], &KEYS[..9], &[0]).unwrap();
    lab.transfers.store(2, &[1], &[1], -1).unwrap();
    assert_eq!(lab.next().id, 2);
    while lab.transfers.cancel(1) {
        assert!(lab.next().cancelled);
        lab.transfers.read_pages(1, file(&path), &[0.0], &KEYS[..9], &[0]).unwrap();
        std::thread::yield_now();
    }
    assert!(!lab.transfers.stop(Duration::from_millis(1)));
    let result = lab.next();
    assert_eq!((result.id, result.cancelled, result.failed), (1, false, vec![0]));
    assert_eq!(result.error.unwrap().code, "deadline");
    // The thread comes back to find that nobody waits.
    drop(std::fs::OpenOptions::new().write(true).open(&path).unwrap());
    assert!(lab.transfers.stop(Duration::MAX));
    assert!(lab.transfers.take_results().is_empty());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn dropping_the_handle_ends_the_threads() {
    let lab = Lab::new(8, &TransferOptions { threads: 3, ..options(8) });
    lab.transfers.store(1, &[1], &[1], 1000).unwrap();
    lab.transfers.write_pages(2, file("/nonexistent/x"), &[0.0], &KEYS[..9], &[2]).unwrap();
    let shared = Arc::downgrade(&lab.transfers.shared);
    drop(lab);
    while shared.strong_count() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn pages_survive_a_file() {
    let path = std::env::temp_dir().join(format!("kvengine-transfers-{}", std::process::id()));
    let mut lab = Lab::new(8, &options(8));
    (1..4).for_each(|block| lab.fill(block, block as u8));
    lab.transfers.store(1, &[1, 2, 3], &[1, 2, 3], -1).unwrap();
    assert!(lab.next().ok());
    let at = |slot: usize| (slot * (PAGE + LABEL_BYTES) + 64) as f64;
    lab.transfers.write_pages(2, file(&path), &[at(2), at(0), at(1)], &KEYS, &[1, 2, 3]).unwrap();
    assert!(lab.next().ok());
    lab.transfers.read_pages(3, file(&path), &[at(0), at(1), at(2)], &KEYS, &[4, 5, 6]).unwrap();
    assert!(lab.next().ok());
    lab.transfers.load(4, &[4, 5, 6], &[4, 5, 6], -1).unwrap();
    assert!(lab.next().ok());
    assert_eq!([lab.block(4), lab.block(5), lab.block(6)], [2, 3, 1]);
    let stats = lab.transfers.stats();
    assert_eq!(stats.kinds.map(|kind| (kind.flights, kind.bytes)), [(1, 3 * PAGE as u64); 4]);
    assert_eq!((stats.copied_by_transfer_threads, stats.copied_by_other_threads), (12 * PAGE as u64, 0));
    assert_eq!(stats.pending, 0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn manual_flights_are_run_from_outside() {
    let mut lab = Lab::new(8, &TransferOptions { manual: true, ..options(8) });
    lab.fill(1, 5);
    lab.transfers.store(1, &[1, 1, 1], &[1, 2, 3], 0).unwrap();
    lab.transfers.store(2, &[1], &[4], -1).unwrap();
    assert!(!lab.transfers.begin(1));
    assert!(lab.transfers.run(1, Some(&[1])).unwrap() && !lab.transfers.run(1, None).unwrap());
    assert!(lab.transfers.begin(2) && !lab.transfers.cancel(2));
    assert!(lab.transfers.run(2, None).unwrap());
    let result = lab.next();
    assert_eq!((result.id, result.failed), (2, vec![0]));
    lab.steps.finish(0);
    let result = lab.next();
    assert_eq!((result.id, result.failed), (1, vec![1]));
    assert_eq!(result.error.unwrap().code, "injected");
    assert_eq!((lab.page(1), lab.page(3)), (5, 5));
    lab.transfers.store(3, &[1], &[5], -1).unwrap();
    assert!(lab.transfers.run(3, Some(&[1])).unwrap_err().message.contains("entry 1, allowed is 0 to 0"));
    assert!(!lab.transfers.run(9, None).unwrap() && !lab.transfers.begin(9));
    assert!(lab.transfers.run(3, Some(&[])).unwrap());
    assert!(lab.next().ok());
}

/// What a flight of the stress test will have moved.
struct Expected {
    is_load: bool,
    pages: Vec<i32>,
    blocks: Vec<i32>,
    /// What must arrive; `None` where a step still writes it.
    tags: Vec<Option<u8>>,
    cancelled: bool,
}

/// Plays the engine: keeps flights and steps apart as `pages.rs` asks, and knows what every page must hold.
struct Stress {
    lab: Lab,
    random: Random,
    /// What each block and each page holds.
    blocks: Vec<u8>,
    pages: Vec<Option<u8>>,
    flights: HashMap<i64, Expected>,
    next_id: i64,
    step: i32,
    ended: usize,
}

impl Stress {
    fn new(seed: u64, options: &TransferOptions) -> Self {
        let lab = Lab::new(24, options);
        let (blocks, pages) = (vec![0; 24], vec![None; options.host_pages as usize]);
        let random = Random(seed);
        Self { lab, random, blocks, pages, flights: HashMap::new(), next_id: 0, step: -1, ended: 0 }
    }

    fn some(&mut self, from: impl Iterator<Item = i32>) -> Vec<i32> {
        let mut left: Vec<i32> = from.collect();
        let count = left.len().min(1 + self.random.below(4));
        (0..count).map(|_| left.swap_remove(self.random.below(left.len()))).collect()
    }

    fn busy(&self, loads: bool, stores: bool, what: impl Fn(&Expected) -> &Vec<i32>) -> HashSet<i32> {
        let counted = |f: &&Expected| if f.is_load { loads } else { stores };
        self.flights.values().filter(counted).flat_map(|flight| what(flight).clone()).collect()
    }

    /// Of blocks that no load and no step writes; half of the time such that the next step has yet to write.
    fn store(&mut self) {
        let written = self.busy(true, false, |f| &f.blocks);
        let read = self.busy(false, true, |f| &f.blocks);
        let late = self.random.below(2) == 0;
        let taken = |b: &i32| written.contains(b) || self.awaits_step(*b) || (late && read.contains(b));
        let may: Vec<i32> = (1..24).filter(|block| !taken(block)).collect();
        let blocks = self.some(may.into_iter());
        let used = self.busy(true, true, |f| &f.pages);
        let mut pages = self.some((0..self.pages.len() as i32).filter(|page| !used.contains(page)));
        let len = blocks.len().min(pages.len());
        pages.truncate(len);
        let tags = blocks[..len].iter().map(|&b| (!late).then_some(self.blocks[b as usize])).collect();
        for &page in &pages {
            self.pages[page as usize] = None;
        }
        let after = i64::from(if late { self.step + 1 } else { self.step });
        self.go(false, pages, blocks[..len].to_vec(), tags, after);
    }

    /// From pages that no store writes to blocks that nobody uses.
    fn load(&mut self) {
        let used = self.busy(true, true, |f| &f.blocks);
        let mut blocks = self.some((1..24).filter(|block| !used.contains(block)));
        let filled = |page: &i32| self.pages[*page as usize].is_some();
        let filled: Vec<i32> = (0..self.pages.len() as i32).filter(filled).collect();
        let mut pages = self.some(filled.into_iter());
        let len = blocks.len().min(pages.len());
        blocks.truncate(len);
        pages.truncate(len);
        let tags = pages.iter().map(|&page| self.pages[page as usize]).collect();
        self.go(true, pages, blocks, tags, i64::from(self.step));
    }

    fn go(&mut self, is_load: bool, pages: Vec<i32>, blocks: Vec<i32>, tags: Vec<Option<u8>>, after: i64) {
        if pages.is_empty() {
            return;
        }
        let (id, transfers) = (self.next_id, &self.lab.transfers);
        self.next_id += 1;
        if is_load {
            transfers.load(id, &pages, &blocks, after).unwrap();
        } else {
            transfers.store(id, &blocks, &pages, after).unwrap();
        }
        self.flights.insert(id, Expected { is_load, pages, blocks, tags, cancelled: false });
    }

    /// Whether a store waits for the step that writes the block.
    fn awaits_step(&self, block: i32) -> bool {
        let awaits = |f: &Expected| f.blocks.iter().zip(&f.tags).any(|(&b, tag)| b == block && tag.is_none());
        self.flights.values().any(awaits)
    }

    /// A step writes what stores wait for, and some blocks that nobody uses.
    fn step(&mut self) {
        let used = self.busy(true, true, |f| &f.blocks);
        for block in 1..24 {
            let tag = self.random.next() as u8;
            let awaits =
                |f: &Expected| f.blocks.iter().zip(&f.tags).any(|(&b, tag)| b == block && tag.is_none());
            let awaited = self.flights.values().any(awaits);
            if awaited || (!used.contains(&block) && self.random.below(2) == 0) {
                self.lab.fill(block, tag);
                self.blocks[block as usize] = tag;
            }
        }
        for flight in self.flights.values_mut() {
            for (tag, &block) in flight.tags.iter_mut().zip(&flight.blocks) {
                tag.get_or_insert(self.blocks[block as usize]);
            }
        }
        self.step += 1;
        self.lab.steps.finish(self.step);
    }

    fn cancel(&mut self) {
        let id = self.next_id - 1 - self.random.below(4) as i64;
        if self.lab.transfers.cancel(id) {
            self.flights.get_mut(&id).expect("a flight").cancelled = true;
        }
    }

    fn take(&mut self) {
        for result in self.lab.transfers.take_results() {
            self.ended += 1;
            let flight = self.flights.remove(&result.id).expect("one result each");
            assert_eq!((result.cancelled, result.ok()), (flight.cancelled, !flight.cancelled), "{result:?}");
            if result.cancelled {
                continue;
            }
            for ((&page, &block), tag) in flight.pages.iter().zip(&flight.blocks).zip(flight.tags) {
                let tag = tag.expect("a store waits for its step");
                if flight.is_load {
                    assert_eq!(self.lab.block(block), tag);
                    self.blocks[block as usize] = tag;
                } else {
                    assert_eq!(self.lab.page(page), tag);
                    self.pages[page as usize] = Some(tag);
                }
            }
        }
    }

    fn play(mut self, moves: usize) {
        for _ in 0..moves {
            match self.random.below(12) {
                0..=2 => self.store(),
                3..=5 => self.load(),
                6 | 7 => self.step(),
                8 => self.cancel(),
                9 => {
                    let transfers = &self.lab.transfers;
                    transfers.set_store_share([0.3, 1.0][self.random.below(2)]).unwrap();
                    transfers.set_link_bytes_per_second([0.0, 2e9][self.random.below(2)]).unwrap();
                }
                _ => self.take(),
            }
        }
        self.step();
        while !self.flights.is_empty() {
            self.lab.news.recv().unwrap();
            self.take();
        }
        assert_eq!(self.ended, self.next_id as usize);
        assert!(self.lab.transfers.stop(Duration::MAX));
        assert_eq!(self.lab.transfers.stats().copied_by_other_threads, 0);
    }
}

#[test]
fn random_engines_find_every_page_bit_for_bit() {
    for seed in 0..60 {
        let options =
            TransferOptions { threads: 1 + seed as u32 % 3, checksums: seed % 2 == 0, ..options(32) };
        Stress::new(seed, &options).play(400);
    }
}

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

/// A store of a folder of its own, for pages of the lab.
fn disk(name: &str, page_bytes: usize) -> (TestFolder, Arc<DiskStore>) {
    let folder = TestFolder::new(name);
    let options = DiskOptions {
        path: folder.path.clone(),
        size_bytes: 1 << 20,
        page_bytes,
        fingerprint: "lab".to_owned(),
        ttl_seconds: 0.0,
        pin_share: 0.5,
        direct_io: false,
    };
    let store = Arc::new(DiskStore::open(&options).unwrap());
    (folder, store)
}

/// Words of the keys of these numbers.
fn key_words(numbers: &[i32]) -> Vec<i32> {
    numbers.iter().flat_map(|&number| [number, 0, 0, 0, 0, 0, 0, 0, 1]).collect()
}

#[test]
fn pages_go_to_a_disk_store_and_come_back_by_key() {
    let (_folder, disk) = disk("flights", PAGE);
    let mut lab = Lab::new(8, &options(16));
    for block in 1..=5 {
        lab.fill(block, block as u8);
    }
    lab.transfers.store(1, &[1, 2, 3, 4, 5], &[0, 1, 2, 3, 4], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.write_disk(2, &disk, &key_words(&[1, 2, 3, 4, 5]), &[0, 1, 2, 3, 4]).unwrap();
    let result = lab.next();
    assert!(result.ok() && result.bytes == 5 * PAGE as u64, "{result:?}");
    lab.transfers.read_disk(3, &disk, &key_words(&[4, 9, 1]), &[10, 11, 12]).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.bytes), (vec![1], 2 * PAGE as u64));
    assert_eq!(result.error.unwrap().code, "missing");
    assert_eq!((lab.page(10), lab.page(12)), (4, 1));
    // What has arrived is sealed, what has not is empty.
    lab.transfers.load(4, &[10, 11, 12], &[6, 7, 1], -1).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.error.unwrap().code.as_ref()), (vec![1], "empty"));
    assert_eq!((lab.block(6), lab.block(1)), (4, 1));
    let stats = lab.transfers.stats();
    assert_eq!(stats.kinds.map(|kind| kind.bytes / PAGE as u64), [2, 5, 2, 5]);
    assert_eq!((stats.copied_by_transfer_threads, stats.copied_by_other_threads), (14 * PAGE as u64, 0));
    assert!(lab.transfers.stop(Duration::MAX) && disk.close(Duration::MAX));
}

#[test]
fn a_page_that_was_changed_on_the_host_never_reaches_a_disk_store() {
    let (_folder, disk) = disk("changed", PAGE);
    let mut lab = Lab::new(4, &options(4));
    lab.transfers.store(1, &[1, 2], &[0, 1], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.corrupt_page(1).unwrap();
    lab.transfers.write_disk(2, &disk, &key_words(&[1, 2, 3]), &[0, 1, 3]).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.error.unwrap().code.as_ref()), (vec![1, 2], "checksum"));
    let keys = Key::all_of(&key_words(&[1, 2, 3])).unwrap();
    assert_eq!(disk.has(&keys), [true, false, false]);
    assert_eq!(lab.transfers.stats().wrong_checksums, 1);
}

/// Lets a manual flight go; answers what has failed.
fn run(lab: &mut Lab, id: i64, failed: &[i32]) -> Vec<u32> {
    assert!(lab.transfers.run(id, Some(failed)).unwrap());
    lab.next().failed
}

#[test]
fn flights_of_a_disk_store_can_be_cancelled_and_made_to_fail() {
    let (_folder, disk) = disk("manual", PAGE);
    let mut lab = Lab::new(4, &TransferOptions { manual: true, ..options(4) });
    lab.transfers.store(1, &[1, 2], &[0, 1], -1).unwrap();
    assert!(run(&mut lab, 1, &[]).is_empty());
    lab.transfers.write_disk(2, &disk, &key_words(&[1]), &[0]).unwrap();
    assert!(lab.transfers.cancel(2));
    assert!(lab.next().cancelled);
    let keys = Key::all_of(&key_words(&[1, 2])).unwrap();
    assert_eq!(disk.has(&keys), [false, false]);
    lab.transfers.write_disk(3, &disk, &key_words(&[1, 2]), &[0, 1]).unwrap();
    assert_eq!(run(&mut lab, 3, &[1]), [1]);
    assert_eq!(disk.has(&keys), [true, false]);
    lab.transfers.read_disk(4, &disk, &key_words(&[1, 1]), &[2, 3]).unwrap();
    assert_eq!(run(&mut lab, 4, &[0]), [0]);
}

#[test]
fn what_does_not_fit_a_disk_store_is_refused_by_name() {
    let lab = Lab::new(4, &options(3));
    let (_a, same) = disk("fits", PAGE);
    let (_b, other) = disk("other", PAGE + 1);
    let refused = |result: Result<()>| result.unwrap_err().message;
    let transfers = &lab.transfers;
    for (message, expected) in [
        (
            refused(transfers.read_disk(5, &other, &key_words(&[1]), &[0])),
            "flight 5: the disk store has pages of 1025",
        ),
        (
            refused(transfers.read_disk(5, &same, &key_words(&[1]), &[3])),
            "flight 5: host page 3, allowed is 0 to 2",
        ),
        (
            refused(transfers.read_disk(5, &same, &key_words(&[1]), &[0, 1])),
            "flight 5: 2 host pages and 1 places",
        ),
        (refused(transfers.write_disk(5, &same, &[1, 2], &[0])), "flight 5: 2 words are no whole keys"),
    ] {
        assert!(message.starts_with(expected), "{message}\n  lacks: {expected}");
    }
    assert_eq!(transfers.stats().pending, 0);
}
