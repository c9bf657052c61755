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
