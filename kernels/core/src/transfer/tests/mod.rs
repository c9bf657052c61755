//! The threads, with real pages.
#![expect(unsafe_code, reason = "looks into pages")]

mod disk;
mod files;
mod sequences;
mod stress;

use super::*;
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
fn a_store_that_somebody_waits_for_is_made_whatever_its_share() {
    let mut lab = Lab::new(4, &TransferOptions { store_share: 0.0, ..options(4) });
    lab.transfers.store(1, &[1], &[1], -1).unwrap();
    lab.transfers.store(2, &[2], &[2], -1).unwrap();
    lab.transfers.hurry(2);
    lab.transfers.hurry(99);
    assert_eq!(lab.next().id, 2);
    assert_eq!(lab.transfers.stats().pending, 1);
    lab.transfers.hurry(1);
    assert_eq!(lab.next().id, 1);
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
