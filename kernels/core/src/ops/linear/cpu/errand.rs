//! What linears ask the caches for beside their work: memory that an op behind them would wait for. With many rows linears compute
//! longer than they read, and attention reads longer than it computes.

use std::ptr::without_provenance;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernel::LINE;

/// Most lines of a part, which a kernel asks for while it multiplies a panel with a group. With more of them kernels wait for their own
/// reads, with fewer there is not time enough to ask for all (measured on Zen 4).
const PART: usize = 72;

/// Memory in parts, each of which is asked for once.
#[derive(Debug, Default)]
pub struct Errand {
    /// The address that parts are counted from.
    base: usize,
    /// Bytes from there to each part.
    parts: Vec<usize>,
    /// Lines of a part.
    lines: usize,
    /// How many were taken, or more.
    taken: AtomicUsize,
}

/// Some parts.
pub(super) struct Parts<'a> {
    base: usize,
    places: &'a [usize],
    lines: usize,
}

impl Errand {
    /// Forgets all parts for those of pieces of `bytes` bytes, which begin at `places`. Nothing is asked for before [`Self::begin`].
    pub fn fill(&mut self, bytes: usize, places: impl Iterator<Item = usize>) {
        let lines = bytes.div_ceil(LINE);
        let parts = lines.div_ceil(PART).max(1);
        let each = lines.div_ceil(parts);
        self.lines = each;
        self.parts.clear();
        self.parts.extend(places.flat_map(|at| (0..parts).map(move |part| at + part * each * LINE)));
        self.end();
    }

    /// Has all parts asked for; places are counted from `base`, an address.
    pub fn begin(&mut self, base: usize) {
        self.base = base;
        *self.taken.get_mut() = 0;
    }

    /// Nothing is asked for from here on.
    pub fn end(&mut self) {
        *self.taken.get_mut() = self.parts.len();
    }

    /// Whether some part was not taken yet.
    pub(super) fn is_open(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.parts.len()
    }

    /// The next `count` parts, or those that are left.
    pub(super) fn take(&self, count: usize) -> Parts<'_> {
        let len = self.parts.len();
        let open = count > 0 && self.is_open();
        let from = if open { self.taken.fetch_add(count, Ordering::Relaxed).min(len) } else { len };
        Parts { base: self.base, places: &self.parts[from..len.min(from + count)], lines: self.lines }
    }
}

impl Parts<'_> {
    /// Where part `index` begins, and its lines; `None` behind the last one.
    pub(super) fn get(&self, index: usize) -> Option<(*const u8, usize)> {
        let at = self.places.get(index)?;
        Some((without_provenance(self.base.wrapping_add(*at)), self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: usize = 1 << 20;

    /// The lines of the parts, counted from the base.
    fn lines(parts: &Parts<'_>) -> Vec<usize> {
        let parts = (0..).map_while(|index| parts.get(index));
        parts.flat_map(|(at, lines)| (0..lines).map(move |line| (at.addr() - BASE) / LINE + line)).collect()
    }

    #[test]
    fn parts_cover_every_line_of_every_piece_and_are_taken_once() {
        for of_piece in [1, PART - 1, PART, PART + 1, 198, 5 * PART + 3] {
            for count in [1, 2, 7] {
                let mut errand = Errand::default();
                errand.fill(of_piece * LINE, [3000, 0, 1000].map(|line| line * LINE).into_iter());
                assert!(!errand.is_open() && lines(&errand.take(count)).is_empty(), "before it begins");
                errand.begin(BASE);
                let mut all = Vec::new();
                while errand.is_open() {
                    let parts = errand.take(count);
                    assert!(parts.places.len() <= count && parts.lines <= PART);
                    all.extend(lines(&parts));
                }
                assert!(lines(&errand.take(count)).is_empty());
                let taken = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), taken, "no line is asked for twice");
                for first in [0, 1000, 3000] {
                    let piece: Vec<usize> =
                        all.iter().copied().filter(|line| (first..first + 1000).contains(line)).collect();
                    let parts = of_piece.div_ceil(PART);
                    assert!(
                        piece.len() >= of_piece && piece.len() < of_piece + parts,
                        "{of_piece}: {piece:?}"
                    );
                    assert!(piece.into_iter().eq(first..first + piece_len(of_piece)));
                }
            }
        }
    }

    /// Lines that are asked for, of a piece of so many: whole parts.
    fn piece_len(lines: usize) -> usize {
        let parts = lines.div_ceil(PART);
        lines.div_ceil(parts) * parts
    }

    #[test]
    fn an_errand_that_ended_or_is_empty_gives_nothing_and_one_that_begins_again_gives_all() {
        let mut errand = Errand::default();
        errand.begin(BASE);
        assert!(!errand.is_open() && errand.take(1).get(0).is_none());
        errand.fill(LINE, [0, LINE].into_iter());
        errand.begin(BASE);
        assert!(errand.take(0).get(0).is_none() && errand.is_open());
        assert_eq!(lines(&errand.take(1)), [0]);
        errand.end();
        assert!(errand.take(1).get(0).is_none());
        errand.begin(BASE + 7 * LINE);
        assert_eq!(lines(&errand.take(9)), [7, 8]);
    }

    #[test]
    fn threads_share_the_parts() {
        let mut errand = Errand::default();
        errand.fill(LINE, (0..1000).map(|line| line * LINE));
        errand.begin(BASE);
        let mut all: Vec<usize> = std::thread::scope(|scope| {
            let take = || {
                std::iter::from_fn(|| errand.is_open().then(|| lines(&errand.take(3)))).flatten().collect()
            };
            let threads = [(); 3].map(|()| scope.spawn(take));
            threads.into_iter().flat_map(|thread| -> Vec<usize> { thread.join().unwrap() }).collect()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }
}
