//! A process that stores pages is killed (signal 9) fifty times.

use super::files::options;
use crate::disk::DiskStore;
use crate::disk::testing::{TestFolder, content, key};
use crate::testing::Random;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FOLDER: &str = "KVENGINE_TEST_DISK_FOLDER";
const SEED: &str = "KVENGINE_TEST_DISK_SEED";
const KILLS: u64 = 50;
/// Pages that were stored last and cannot have been given up: there is room for 120, of which a few are being written.
const KEPT: usize = 80;

/// Not a test of its own: the process that is killed. It stores pages, several to a call, on two threads, and says which are stored.
#[test]
#[ignore = "run by the test below"]
fn a_process_that_stores_until_it_is_killed() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else { return };
    let seed: u64 = seed.parse().unwrap();
    let store = DiskStore::open(&options(folder.as_ref())).unwrap();
    let turns = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, turns, page_bytes) = (&store, &turns, store.page_bytes());
            scope.spawn(move || {
                let mut random = Random(2 * seed + thread);
                loop {
                    let numbers: Vec<u64> = (0..=random.below(8)).map(|_| random.below(400) as u64).collect();
                    let pages: Vec<_> = numbers.iter().map(|&number| content(number, page_bytes)).collect();
                    let pages: Vec<_> =
                        numbers.iter().zip(&pages).map(|(&n, page)| (key(n), &page[..])).collect();
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    let results = store.write(&pages);
                    for (number, _) in numbers.iter().zip(results).filter(|(_, result)| result.is_ok()) {
                        // One call a line, so that a line is whole or not there.
                        std::io::stderr().write_all(format!("stored {turn} {number}\n").as_bytes()).unwrap();
                    }
                }
            });
        }
    });
}

fn start(folder: &TestFolder, seed: u64) -> Child {
    let name = "disk::tests::killed::a_process_that_stores_until_it_is_killed";
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(FOLDER, &folder.path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn turn_and_number(line: &str) -> Option<(u64, u64)> {
    let (turn, number) = line.strip_prefix("stored ")?.split_once(' ')?;
    Some((turn.parse().ok()?, number.parse().ok()?))
}

#[test]
fn a_process_killed_fifty_times_under_load_leaves_only_right_pages() {
    let test = TestFolder::new("killed");
    let options = options(&test.path);
    let mut found = 0;
    for seed in 0..KILLS {
        let mut child = start(&test, seed);
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut stored = Vec::new();
        for _ in 0..=Random(seed).below(60) {
            stored.push(said.next().expect("it runs until it is killed").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        stored.extend(said.map_while(Result::ok));
        let store = DiskStore::open(&options).unwrap();
        let bytes: u64 =
            std::fs::read_dir(&test.path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= options.size_bytes, "{bytes} bytes");
        // A thread may have waited before it said what it had stored: its turn tells.
        let mut stored: Vec<(u64, u64)> = stored.iter().filter_map(|line| turn_and_number(line)).collect();
        stored.sort_unstable();
        let mut newest = BTreeSet::new();
        while let Some((_, number)) = stored.pop().filter(|_| newest.len() < KEPT) {
            newest.insert(number);
        }
        let mut page = vec![0; options.page_bytes];
        for number in 0..400 {
            let result = store.read(&mut [(key(number), &mut page)]).remove(0);
            assert!(
                result.is_ok() || !newest.contains(&number),
                "page {number} is lost: {result:?}, seed {seed}"
            );
            if result.is_ok() {
                found += 1;
                assert!(page == content(number, options.page_bytes), "page {number} is wrong, seed {seed}");
            }
        }
        assert!(store.close(Duration::MAX));
    }
    assert!(found > 1000, "{found} pages were found");
}
