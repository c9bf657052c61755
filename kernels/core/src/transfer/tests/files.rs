//! Flights between host pages and files.
#![expect(unsafe_code, reason = "makes a pipe")]

use super::{KEYS, Lab, PAGE, file, options};
use crate::transfer::LABEL_BYTES;
use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

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
fn a_write_that_a_disk_holds_up_holds_up_no_read() {
    let (slow, quick) =
        (pipe("slow"), std::env::temp_dir().join(format!("kvengine-quick-{}", std::process::id())));
    let mut lab = Lab::new(8, &options(8));
    lab.fill(1, 5);
    lab.transfers.store(1, &[1], &[0], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.write_pages(2, file(&quick), &[0.0], &KEYS[..9], &[0]).unwrap();
    assert!(lab.next().ok());
    lab.transfers.write_pages(3, file(&slow), &[0.0], &KEYS[..9], &[0]).unwrap();
    while lab.transfers.cancel(3) {
        assert!(lab.next().cancelled);
        lab.transfers.write_pages(3, file(&slow), &[0.0], &KEYS[..9], &[0]).unwrap();
        std::thread::yield_now();
    }
    lab.transfers.read_pages(4, file(&quick), &[0.0], &KEYS[..9], &[1]).unwrap();
    let result = lab.next();
    assert!(result.ok() && result.id == 4, "{result:?}");
    assert_eq!(lab.page(1), 5);
    // A pipe has no places to write to.
    drop(std::fs::File::open(&slow).unwrap());
    assert_eq!(lab.next().failed, [0]);
    assert!(lab.transfers.stop(Duration::MAX));
    for path in [slow, quick] {
        std::fs::remove_file(path).unwrap();
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
