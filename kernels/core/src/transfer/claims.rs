//! Which host pages and device blocks are in flight. Any number of flights may read one; who writes it is alone. A flight
//! that breaks this is refused before it copies: it would have read what another was writing. Tests let steps claim their
//! blocks as well.

use super::flight::{FlightError, Kind, Plan};
use crate::step::{Limits, Step};
use std::collections::BTreeSet;

/// The state of each page and block: readers, or [`WRITER`].
type Slots = Vec<i32>;

const WRITER: i32 = -1;

/// See the module.
#[derive(Debug)]
pub(super) struct Claims {
    pages: Slots,
    blocks: Slots,
}

impl Claims {
    pub(super) fn new(num_pages: usize, num_blocks: usize) -> Self {
        Self { pages: vec![0; num_pages], blocks: vec![0; num_blocks] }
    }

    /// Claims all that a flight reads and writes, or nothing.
    ///
    /// # Errors
    /// `conflict`, naming the first page or block that is in use; one that a flight writes twice is.
    pub(super) fn take(&mut self, plan: &Plan) -> Result<(), FlightError> {
        let fills_pages = plan.kind.fills_pages();
        claim(&mut self.pages, &plan.pages, fills_pages, "host page")?;
        claim(&mut self.blocks, plan.blocks(), plan.kind == Kind::Load, "block").inspect_err(|_| {
            release(&mut self.pages, &plan.pages, fills_pages);
        })
    }

    /// Gives back what [`Self::take`] took.
    pub(super) fn release(&mut self, plan: &Plan) {
        release(&mut self.pages, &plan.pages, plan.kind.fills_pages());
        release(&mut self.blocks, plan.blocks(), plan.kind == Kind::Load);
    }

    /// Whether any flight has the page.
    pub(super) fn has_page(&self, page: u32) -> bool {
        self.pages[page as usize] != 0
    }

    /// Claims one page for what is no flight.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_page(&mut self, page: u32, alone: bool) -> Result<(), FlightError> {
        claim(&mut self.pages, &[page], alone, "host page")
    }

    /// Gives back what [`Self::take_page`] took.
    pub(super) fn release_page(&mut self, page: u32, alone: bool) {
        release(&mut self.pages, &[page], alone);
    }

    /// Claims the blocks of a step, or nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_step(&mut self, step: &StepBlocks) -> Result<(), FlightError> {
        claim(&mut self.blocks, &step.written, true, "block")?;
        claim(&mut self.blocks, &step.read, false, "block").inspect_err(|_| {
            release(&mut self.blocks, &step.written, true);
        })
    }

    /// Gives back what [`Self::take_step`] took.
    pub(super) fn release_step(&mut self, step: &StepBlocks) {
        release(&mut self.blocks, &step.written, true);
        release(&mut self.blocks, &step.read, false);
    }
}

/// The blocks that a step touches, the null block aside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StepBlocks {
    read: Vec<u32>,
    written: Vec<u32>,
}

impl StepBlocks {
    pub(super) fn of(step: &Step, limits: &Limits) -> Self {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        for (r, row) in step.rows.iter().enumerate() {
            let filled = row.start / limits.block_size;
            for table in (0..limits.groups.len()).map(|g| step.table(g, r)) {
                let (before, own) = table.split_at(filled.min(table.len()));
                read.extend(before);
                written.extend(own);
            }
        }
        for [from, to] in &step.copies {
            read.insert(*from);
            written.insert(*to);
        }
        let of = |blocks: BTreeSet<i32>| blocks.into_iter().filter(|&b| b > 0).map(|b| b as u32).collect();
        read.retain(|block| !written.contains(block));
        Self { read: of(read), written: of(written) }
    }
}

fn claim(slots: &mut Slots, indices: &[u32], write: bool, what: &str) -> Result<(), FlightError> {
    for (i, &index) in indices.iter().enumerate() {
        let slot = &mut slots[index as usize];
        if *slot == WRITER || (write && *slot != 0) {
            let message = if write && indices[..i].contains(&index) {
                format!("{what} {index} would be written twice by one flight")
            } else {
                let being = if *slot == WRITER { "written" } else { "read" };
                format!("{what} {index} is being {being} elsewhere")
            };
            release(slots, &indices[..i], write);
            return Err(FlightError::new("conflict", message));
        }
        *slot = if write { WRITER } else { *slot + 1 };
    }
    Ok(())
}

fn release(slots: &mut Slots, indices: &[u32], write: bool) {
    for &index in indices {
        let slot = &mut slots[index as usize];
        *slot = if write { 0 } else { *slot - 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::flight::Far;

    fn plan(kind: Kind, pages: &[u32], blocks: &[u32]) -> Plan {
        Plan { id: 0, kind, pages: pages.to_vec(), far: Far::Blocks(blocks.to_vec()) }
    }

    fn refusal(claims: &mut Claims, plan: &Plan) -> String {
        let before = (claims.pages.clone(), claims.blocks.clone());
        let error = claims.take(plan).expect_err("refused");
        assert_eq!((&claims.pages, &claims.blocks), (&before.0, &before.1));
        assert_eq!(error.code, "conflict");
        error.message
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let mut claims = Claims::new(8, 8);
        // Two loads from one page, two stores of one block.
        let readers = [
            plan(Kind::Load, &[1, 2], &[3, 4]),
            plan(Kind::Load, &[1, 1], &[5, 6]),
            plan(Kind::Store, &[3], &[7]),
            plan(Kind::Store, &[4, 5], &[7, 7]),
        ];
        for plan in &readers {
            claims.take(plan).unwrap();
        }
        for (plan, message) in [
            (plan(Kind::Store, &[6, 1], &[1, 1]), "host page 1 is being read elsewhere"),
            (plan(Kind::Load, &[3], &[1]), "host page 3 is being written elsewhere"),
            (plan(Kind::Store, &[0], &[3]), "block 3 is being written elsewhere"),
            (plan(Kind::Load, &[1, 2], &[1, 7]), "block 7 is being read elsewhere"),
            (plan(Kind::Load, &[1], &[3]), "block 3 is being written elsewhere"),
        ] {
            assert_eq!(refusal(&mut claims, &plan), message);
        }
        for plan in &readers {
            claims.release(plan);
        }
        assert!(claims.pages.iter().chain(&claims.blocks).all(|&slot| slot == 0));
    }

    #[test]
    fn a_flight_writes_nothing_twice() {
        let mut claims = Claims::new(4, 4);
        let message = refusal(&mut claims, &plan(Kind::Store, &[2, 1, 2], &[1, 2, 3]));
        assert_eq!(message, "host page 2 would be written twice by one flight");
        let message = refusal(&mut claims, &plan(Kind::Load, &[1, 2], &[3, 3]));
        assert_eq!(message, "block 3 would be written twice by one flight");
    }

    #[test]
    fn a_step_reads_its_tables_and_writes_where_its_tokens_go() {
        let limits = crate::testing::limits();
        // Tokens 20 to 34 lie in the entries 1 and 2 of six.
        let mut words = crate::testing::step_words(0, &[(1, 20, &[1; 15])], &[]);
        words.copies = vec![3, 4];
        let step = words.parse(&limits);
        let [first, second, third] = [0, 1, 2].map(|entry| step.table(0, 0)[entry] as u32);
        let sorted = |mut blocks: Vec<u32>| {
            blocks.sort_unstable();
            blocks
        };
        let blocks = StepBlocks::of(&step, &limits);
        assert_eq!(blocks.read, sorted(vec![first, 3]));
        assert_eq!(blocks.written, sorted(vec![second, third, 4]));
        let mut claims = Claims::new(4, limits.num_blocks);
        claims.take_step(&blocks).unwrap();
        let stores = |block| plan(Kind::Store, &[0], &[block]);
        let message = refusal(&mut claims, &stores(second));
        assert_eq!(message, format!("block {second} is being written elsewhere"));
        claims.take(&stores(first)).unwrap();
        claims.release(&stores(first));
        let message = refusal(&mut claims, &plan(Kind::Load, &[0], &[first]));
        assert_eq!(message, format!("block {first} is being read elsewhere"));
        claims.release_step(&blocks);
        claims.take(&plan(Kind::Load, &[0, 1], &[first, third])).unwrap();
        let before = claims.blocks.clone();
        assert_eq!(claims.take_step(&blocks).unwrap_err().code, "conflict");
        assert_eq!(claims.blocks, before);
    }
}
