//! Which host pages and device blocks are in flight. Any number of flights may read one; who writes it is alone. A flight
//! that breaks this is refused before it copies: it would have read what another was writing.

use super::flight::{FlightError, Kind, Plan};

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
}

fn claim(slots: &mut Slots, indices: &[u32], write: bool, what: &str) -> Result<(), FlightError> {
    for (i, &index) in indices.iter().enumerate() {
        let slot = &mut slots[index as usize];
        if *slot == WRITER || (write && *slot != 0) {
            let message = if write && indices[..i].contains(&index) {
                format!("{what} {index} would be written twice by one flight")
            } else {
                let does = if *slot == WRITER { "writes" } else { "reads" };
                format!("another flight {does} {what} {index}")
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
            (plan(Kind::Store, &[6, 1], &[1, 1]), "another flight reads host page 1"),
            (plan(Kind::Load, &[3], &[1]), "another flight writes host page 3"),
            (plan(Kind::Store, &[0], &[3]), "another flight writes block 3"),
            (plan(Kind::Load, &[1, 2], &[1, 7]), "another flight reads block 7"),
            (plan(Kind::Load, &[1], &[3]), "another flight writes block 3"),
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
}
