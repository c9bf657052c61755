//! The store against a model of a few lines: which pages are there, in which order they go.

use super::simulated::SimulatedDisk;
use super::{SECOND, TestClock, codes, has, open, read, spec, write};
use crate::disk::store::{Spec, Store};
use crate::disk::testing::key;
use proptest::prelude::*;

const NUMBERS: u64 = 24;
/// No whole seconds: pages of one call are some microseconds apart.
const TTL: u64 = 60 * SECOND + SECOND / 2;
const ALL: std::ops::Range<u64> = 0..NUMBERS;

#[derive(Clone, Debug)]
enum Action {
    Store(Vec<u64>),
    Load(Vec<u64>),
    Remove(Vec<u64>),
    Pin(Vec<u64>, u64),
    Unpin(Vec<u64>),
    Weigh(Vec<u64>, u8),
    Upkeep,
    Wait(u64),
    Reopen,
    Clear,
}

fn action() -> impl Strategy<Value = Action> {
    let numbers = || prop::collection::vec(ALL, 1..6);
    prop_oneof![
        8 => numbers().prop_map(Action::Store),
        4 => numbers().prop_map(Action::Load),
        1 => numbers().prop_map(Action::Remove),
        2 => (numbers(), 1..100_u64).prop_map(|(numbers, seconds)| Action::Pin(numbers, seconds)),
        1 => numbers().prop_map(Action::Unpin),
        3 => (numbers(), 0..4_u8).prop_map(|(numbers, weight)| Action::Weigh(numbers, weight)),
        1 => Just(Action::Upkeep),
        2 => (1..40_u64).prop_map(Action::Wait),
        1 => Just(Action::Reopen),
        1 => Just(Action::Clear),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    used_at: u64,
    pinned_until: u64,
    weight: u8,
}

/// Pages in the order of their use.
struct Model {
    entries: Vec<Entry>,
    capacity: usize,
    pinnable: usize,
    ttl: u64,
}

impl Model {
    fn is_there(&self, entry: &Entry, now: u64) -> bool {
        self.ttl == 0 || entry.pinned_until > now || entry.used_at + self.ttl > now
    }

    fn find(&self, number: u64, now: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.number == number && self.is_there(entry, now))
    }

    fn touch(&mut self, at: usize, now: u64) {
        let mut entry = self.entries.remove(at);
        entry.used_at = now;
        self.entries.push(entry);
    }

    fn end_pins(&mut self, now: u64) {
        for entry in &mut self.entries {
            entry.pinned_until = if entry.pinned_until > now { entry.pinned_until } else { 0 };
        }
    }

    fn num_pinned(&self) -> usize {
        self.entries.iter().filter(|entry| entry.pinned_until > 0).count()
    }

    /// Place of the page that is given up: entries are in the order of their use.
    fn next_to_go(&self, new: &[u64]) -> Option<usize> {
        let may_go =
            |&at: &usize| self.entries[at].pinned_until == 0 && !new.contains(&self.entries[at].number);
        let weight = |at: &usize| self.entries[*at].weight;
        let plain = (0..self.entries.len()).filter(may_go).find(|at| weight(at) == 0);
        let weighted = (0..self.entries.len()).filter(may_go).filter(|at| weight(at) > 0).min_by_key(weight);
        let kept = self.entries.iter().filter(|entry| entry.pinned_until > 0 || entry.weight > 0).count();
        match (plain, weighted) {
            (Some(plain), Some(weighted)) if kept > self.pinnable => Some(plain.min(weighted)),
            _ => plain.or(weighted),
        }
    }

    /// Stores a page; those that are stored by the same call are being written, and neither touched nor given up.
    fn store(&mut self, number: u64, new: &mut Vec<u64>, now: u64) -> &'static str {
        if new.contains(&number) {
            return "ok";
        }
        if let Some(at) = self.find(number, now) {
            self.touch(at, now);
            return "ok";
        }
        self.entries.retain(|entry| entry.number != number);
        if self.entries.len() == self.capacity {
            let Some(next) = self.next_to_go(new) else { return "full" };
            self.entries.remove(next);
        }
        self.entries.push(Entry { number, used_at: now, pinned_until: 0, weight: 0 });
        new.push(number);
        "ok"
    }

    fn load(&mut self, number: u64, now: u64) -> &'static str {
        let Some(at) = self.find(number, now) else { return "missing" };
        self.touch(at, now);
        "ok"
    }

    fn pin(&mut self, number: u64, until: u64, now: u64) -> bool {
        let num_pinned = self.num_pinned();
        let Some(at) = self.find(number, now) else { return false };
        let may = self.entries[at].pinned_until > 0 || num_pinned < self.pinnable;
        if may {
            self.entries[at].pinned_until = until;
        }
        may
    }

    fn weigh(&mut self, number: u64, weight: u8, now: u64) -> bool {
        let Some(at) = self.find(number, now) else { return false };
        self.entries[at].weight = weight;
        true
    }

    fn unpin(&mut self, number: u64) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.number == number && entry.pinned_until > 0);
        entry.map(|entry| entry.pinned_until = 0).is_some()
    }

    fn upkeep(&mut self, now: u64) {
        self.end_pins(now);
        let ttl = self.ttl;
        self.entries.retain(|e| ttl == 0 || e.pinned_until > 0 || e.used_at + ttl > now);
    }
}

fn play(spec: &Spec, actions: &[Action]) {
    let (disk, clock) = (SimulatedDisk::new(spec.limit), TestClock::new());
    let mut store = open(&disk, spec, &clock);
    let capacity = (spec.limit / spec.segment_bytes) as usize * 4;
    let mut model = Model { entries: Vec::new(), capacity, pinnable: spec.pinnable(), ttl: spec.ttl };
    for action in actions {
        clock.advance(SECOND);
        let now = clock.now();
        match action {
            Action::Store(numbers) => {
                model.end_pins(now);
                let mut new = Vec::new();
                let expected: Vec<_> =
                    numbers.iter().map(|&number| model.store(number, &mut new, now)).collect();
                assert_eq!(codes(&write(&store, numbers)), expected, "{action:?}");
            }
            Action::Load(numbers) => {
                let expected: Vec<_> = numbers.iter().map(|&number| model.load(number, now)).collect();
                assert_eq!(codes(&read(&store, numbers)), expected, "{action:?}");
            }
            Action::Remove(numbers) => {
                model.entries.retain(|entry| !numbers.contains(&entry.number));
                store.remove(&keys(numbers));
            }
            Action::Pin(numbers, seconds) => {
                let until = now + seconds * SECOND;
                model.end_pins(now);
                let expected: Vec<_> = numbers.iter().map(|&number| model.pin(number, until, now)).collect();
                assert_eq!(store.pin(&keys(numbers), until), expected, "{action:?}");
            }
            Action::Unpin(numbers) => {
                let expected = numbers.iter().filter(|&&number| model.unpin(number)).count();
                assert_eq!(store.unpin(&keys(numbers)), expected, "{action:?}");
            }
            Action::Weigh(numbers, weight) => {
                let expected: Vec<_> =
                    numbers.iter().map(|&number| model.weigh(number, *weight, now)).collect();
                assert_eq!(store.weigh(&keys(numbers), *weight), expected, "{action:?}");
            }
            Action::Upkeep => {
                model.upkeep(now);
                store.upkeep();
            }
            Action::Wait(seconds) => clock.advance(seconds * SECOND),
            Action::Reopen => {
                model.upkeep(now);
                store.end();
                store = open(&disk, spec, &clock);
            }
            Action::Clear => {
                model.entries.clear();
                store.clear();
            }
        }
        agree(&store, &model, clock.now());
    }
}

fn keys(numbers: &[u64]) -> Vec<crate::disk::Key> {
    numbers.iter().map(|&number| key(number)).collect()
}

fn agree(store: &Store, model: &Model, now: u64) {
    let expected: Vec<bool> = ALL.map(|number| model.find(number, now).is_some()).collect();
    assert_eq!(has(store, &ALL.collect::<Vec<_>>()), expected);
    let mut order: Vec<&Entry> = model.entries.iter().filter(|e| model.is_there(e, now)).collect();
    order.sort_by_key(|entry| (entry.pinned_until > 0, entry.weight));
    let (listed, num_free) = (store.list(), order.iter().filter(|entry| entry.pinned_until == 0).count());
    assert_eq!(listed.len(), order.len());
    for (page, entry) in listed.iter().zip(&order[..num_free]) {
        assert_eq!((page.key, page.weight), (key(entry.number), entry.weight), "the order of weight and use");
    }
    let state = store.lock();
    state.index.check();
    assert!(state.bytes <= store.spec.limit && state.index.num_pinned() <= model.pinnable);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_there_and_what_goes_next_is_what_the_model_says(
        actions in prop::collection::vec(action(), 1..80),
        segments in 1..4_u64,
        pin_share in 0.0..=1.0,
        ttl in prop::sample::select(vec![0, TTL]),
    ) {
        play(&Spec { ttl, pin_share, ..spec(segments, 4) }, &actions);
    }
}
