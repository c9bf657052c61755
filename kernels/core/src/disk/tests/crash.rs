//! Power cuts and kills at any byte of what is written: afterwards every page that is given out is right, what was synced is there
//! (after a kill: what was reported as stored), and the limit holds.

use super::simulated::SimulatedDisk;
use super::{PAGE, SECOND, TestClock, open, read, spec, write};
use crate::disk::key::Key;
use crate::disk::store::{Spec, Store};
use crate::disk::testing::key;
use crate::testing::Random;
use std::collections::{BTreeMap, HashMap};

const NUMBERS: usize = 40;

/// Pages that must be there, by when they were stored.
type Kept = BTreeMap<Key, u64>;

/// What a workload has been told.
#[derive(Default)]
struct Witness {
    /// Reported as stored, and neither removed nor evicted since.
    stored: Kept,
    /// Of those, stored before the last upkeep that went well.
    synced: Kept,
}

impl Witness {
    /// Whatever a store has given up need not be there.
    fn look(&mut self, store: &Store) {
        let there: HashMap<Key, u64> = store.list().iter().map(|page| (page.key, page.stored_at)).collect();
        for kept in [&mut self.stored, &mut self.synced] {
            kept.retain(|key, stored_at| there.get(key) == Some(stored_at));
        }
    }
}

/// Stores, loads, removes, pins and keeps up by a seed until the power goes, or to the end.
fn work(seed: u64, disk: &SimulatedDisk, spec: &Spec, clock: &TestClock) -> Witness {
    let mut random = Random(seed);
    let store = open(disk, spec, clock);
    let mut witness = Witness::default();
    for _ in 0..36 {
        clock.advance(SECOND);
        let count = 1 + random.below(5);
        let numbers: Vec<u64> = (0..count).map(|_| random.below(NUMBERS) as u64).collect();
        match random.below(11) {
            0..6 => {
                let results = write(&store, &numbers);
                let there: HashMap<Key, u64> =
                    store.list().iter().map(|page| (page.key, page.stored_at)).collect();
                for (&number, result) in numbers.iter().zip(results) {
                    // One that was given up for another of the same call is not there.
                    if let (Ok(()), Some(&stored_at)) = (result, there.get(&key(number))) {
                        witness.stored.insert(key(number), stored_at);
                    }
                }
            }
            6 => drop(read(&store, &numbers)),
            7 => drop(store.remove(&[key(numbers[0])])),
            8 => drop(store.pin(&[key(numbers[0])], clock.now() + 5 * SECOND)),
            9 => drop(store.weigh(&[key(numbers[0])], 1)),
            _ => {
                store.upkeep();
                if !disk.is_dead() {
                    witness.look(&store);
                    witness.synced = witness.stored.clone();
                }
            }
        }
        witness.look(&store);
        if disk.is_dead() {
            break;
        }
    }
    witness
}

/// Opens what is left and holds it to what must be there.
fn check(disk: &SimulatedDisk, spec: &Spec, clock: &TestClock, kept: &Kept) {
    let store = open(disk, spec, clock);
    assert!(disk.lock().total() <= spec.limit, "the limit");
    let mut arrived = 0;
    for number in 0..NUMBERS as u64 {
        let is_there = read(&store, &[number])[0].is_ok();
        arrived += usize::from(is_there);
        assert!(is_there || !kept.contains_key(&key(number)), "page {number} is lost");
    }
    store.lock().index.check();
    assert_eq!(store.list().len(), arrived, "what cannot be loaded is forgotten");
    // And life goes on.
    let results = write(&store, &[1000, 1001, 1002]);
    assert!(results.iter().chain(&read(&store, &[1000, 1001, 1002])).all(Result::is_ok));
    store.upkeep();
    assert!(disk.lock().total() <= spec.limit, "the limit");
}

fn crash(seed: u64, at: u64, spec: &Spec) {
    let (disk, clock) = (SimulatedDisk::new(spec.limit), TestClock::new());
    disk.cut_after(at);
    let witness = work(seed, &disk, spec, &clock);
    check(&disk.after_kill(), spec, &clock, &witness.stored);
    for variant in 0..3 {
        let disk = disk.after_power_cut(&mut Random(seed ^ at << 20 ^ variant));
        check(&disk, spec, &clock, &witness.synced);
    }
}

/// Bytes that a whole workload writes, and where its writes begin and end.
fn measure(seed: u64, spec: &Spec) -> Vec<u64> {
    let disk = SimulatedDisk::new(spec.limit);
    work(seed, &disk, spec, &TestClock::new());
    let mut boundaries = std::mem::take(&mut disk.lock().boundaries);
    boundaries.dedup();
    boundaries
}

#[test]
fn a_cut_at_any_byte_costs_only_what_was_not_finished() {
    let spec = spec(3, 6);
    let mut random = Random(7);
    for seed in 0..500 {
        let end = *measure(seed, &spec).last().unwrap();
        crash(seed, random.below(end as usize + 1) as u64, &spec);
    }
}

#[test]
fn a_cut_at_any_boundary_of_a_write_and_beside_it_costs_only_what_was_not_finished() {
    for (seed, spec) in [(1, spec(3, 6)), (2, spec(1, 9))] {
        let boundaries = measure(seed, &spec);
        assert!(boundaries.len() > 60, "{} boundaries", boundaries.len());
        for at in boundaries {
            for at in [at.saturating_sub(1), at, at + 1] {
                crash(seed, at, &spec);
            }
        }
    }
}

#[test]
fn a_crash_while_a_crash_is_recovered_from_costs_nothing_more() {
    let spec = spec(2, 5);
    for seed in 0..40 {
        let (disk, clock) = (SimulatedDisk::new(spec.limit), TestClock::new());
        let witness = work(seed, &disk, &spec, &clock);
        let mut random = Random(seed);
        let mut disk = disk.after_power_cut(&mut random);
        for _ in 0..3 {
            disk.cut_after(random.below(3 * PAGE) as u64);
            let store = open(&disk, &spec, &clock);
            let numbers: Vec<u64> = (0..NUMBERS as u64).collect();
            read(&store, &numbers);
            store.upkeep();
            disk = disk.after_power_cut(&mut random);
        }
        check(&disk, &spec, &clock, &witness.synced);
    }
}
