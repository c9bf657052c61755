//! An engine at random: flights and steps at the same time, and what every page must hold.

use super::{Lab, options};
use crate::testing::Random;
use crate::transfer::TransferOptions;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

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
