//! Which page lies in which slot, in which order pages are given up, and which slots are free. In memory only: it knows no files and
//! no clock, and is rebuilt from the records when a store is opened.

use super::key::Key;
use super::record::Page;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

/// A slot of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) slot: u32,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Free,
    /// A page is being written, then (`page`) its record; `wanted`: nobody has removed it meanwhile.
    Writing {
        key: Key,
        page: Option<Page>,
        wanted: bool,
    },
    Filled {
        page: Page,
        readers: u32,
    },
    /// The page was removed while it was read.
    Leaving {
        readers: u32,
    },
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Page(Place, Page),
    BeingWritten,
    Nothing,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Slots whose record on disk differs.
    changed: BTreeSet<u32>,
}

/// See the module. Times are microseconds.
#[derive(Debug, Default)]
pub(super) struct Index {
    segments: BTreeMap<u64, Slots>,
    places: HashMap<Key, Place>,
    free: BTreeSet<Place>,
    /// Pages that may be given up by their weight, the least recently used of each first.
    order: BTreeMap<u8, BTreeSet<(u64, Place)>>,
    /// Pages that are kept until a time.
    pinned: BTreeSet<(u64, Place)>,
    /// The latest stamp given out.
    stamp: u64,
}

impl Place {
    /// Whether the other slot is the next one.
    pub(super) fn is_before(self, other: Self) -> bool {
        self.segment == other.segment && self.slot.checked_add(1) == Some(other.slot)
    }
}

impl Index {
    /// A time that no page has, not before `now`.
    pub(super) fn stamp(&mut self, now: u64) -> u64 {
        self.stamp = now.max(self.stamp.saturating_add(1));
        self.stamp
    }

    /// A segment with nothing in it.
    pub(super) fn add_segment(&mut self, id: u64, slots: u32) {
        self.segments.insert(id, Slots { slots: vec![Slot::Free; slots as usize], ..Slots::default() });
        self.free.extend((0..slots).map(|slot| Place { segment: id, slot }));
    }

    /// Forgets a segment and all pages in it. What is said of its slots later is passed over. Answers how many pages went.
    pub(super) fn drop_segment(&mut self, id: u64) -> usize {
        let Some(slots) = self.segments.remove(&id) else { return 0 };
        let mut pages = 0;
        for (slot, state) in (0..).zip(&slots.slots) {
            let place = Place { segment: id, slot };
            match state {
                Slot::Free => drop(self.free.remove(&place)),
                Slot::Writing { key, wanted: true, .. } => drop(self.places.remove(key)),
                Slot::Writing { .. } | Slot::Leaving { .. } => {}
                Slot::Filled { page, .. } => {
                    self.places.remove(&page.key);
                    self.unlist(place, page);
                    pages += 1;
                }
            }
        }
        pages
    }

    /// Takes in a page found in a free slot. Of two of one key the one that was stored later stays.
    pub(super) fn adopt(&mut self, place: Place, page: Page) {
        if let Found::Page(_, other) = self.find(&page.key) {
            if other.stored_at >= page.stored_at {
                self.mark(place);
                return;
            }
            self.remove(&page.key);
        }
        self.stamp = self.stamp.max(page.stored_at).max(page.used_at);
        self.free.remove(&place);
        self.places.insert(page.key, place);
        self.set(place, Slot::Filled { page, readers: 0 });
        self.list(place, &page);
    }

    /// Pages that can be loaded.
    pub(super) fn num_pages(&self) -> usize {
        self.num_of_weight(0) + self.num_kept()
    }

    /// Pages that are pinned.
    pub(super) fn num_pinned(&self) -> usize {
        self.pinned.len()
    }

    /// Pages that are pinned or have a weight.
    pub(super) fn num_kept(&self) -> usize {
        self.pinned.len() + self.order.range(1..).map(|(_, pages)| pages.len()).sum::<usize>()
    }

    fn num_of_weight(&self, weight: u8) -> usize {
        self.order.get(&weight).map_or(0, BTreeSet::len)
    }

    /// What is known of a key.
    pub(super) fn find(&self, key: &Key) -> Found {
        let Some(&place) = self.places.get(key) else { return Found::Nothing };
        match self.get(place) {
            Some(Slot::Filled { page, .. }) => Found::Page(place, page),
            _ => Found::BeingWritten,
        }
    }

    /// All pages: by weight, the least recently used of each first, and behind them those that are pinned.
    pub(super) fn pages(&self) -> impl Iterator<Item = Page> {
        self.order.values().flatten().chain(&self.pinned).filter_map(|&(_, place)| match self.get(place) {
            Some(Slot::Filled { page, .. }) => Some(page),
            _ => None,
        })
    }

    /// The page counts as used now.
    pub(super) fn touch(&mut self, place: Place, now: u64) {
        let used_at = self.stamp(now);
        self.change(place, |page| page.used_at = used_at);
    }

    /// Keeps a page until a time; 0 = no longer.
    pub(super) fn pin(&mut self, place: Place, until: u64) {
        self.change(place, |page| page.pinned_until = until);
    }

    /// Pages of a higher weight are given up later.
    pub(super) fn weigh(&mut self, place: Place, weight: u8) {
        self.change(place, |page| page.weight = weight);
    }

    /// Pins whose time has come end, and as many more of those that end next as are needed for `most` to be left.
    pub(super) fn end_pins(&mut self, now: u64, most: usize) {
        while let Some(&(until, place)) = self.pinned.first() {
            if until > now && self.pinned.len() <= most {
                return;
            }
            self.pin(place, 0);
        }
    }

    /// Removes pages that were used last at this time or before and are not pinned. Answers how many.
    pub(super) fn expire(&mut self, used_at: u64) -> usize {
        let old = |pages: &BTreeSet<(u64, Place)>| {
            pages.iter().take_while(|(used, _)| *used <= used_at).map(|&(_, place)| place).collect::<Vec<_>>()
        };
        let old: Vec<Place> = self.order.values().flat_map(old).collect();
        old.into_iter().filter(|&place| self.remove_at(place)).count()
    }

    /// The page is being read: its slot is nobody else's until [`Self::end_read`].
    pub(super) fn begin_read(&mut self, place: Place, now: u64) {
        self.touch(place, now);
        if let Some(Slot::Filled { page, readers }) = self.get(place) {
            self.set(place, Slot::Filled { page, readers: readers + 1 });
        }
    }

    /// The page was read. `good`: it was what it should be; otherwise it is removed.
    pub(super) fn end_read(&mut self, place: Place, good: bool) {
        match self.get(place) {
            Some(Slot::Filled { page, readers }) => {
                self.set(place, Slot::Filled { page, readers: readers - 1 });
                if !good {
                    self.remove_at(place);
                }
            }
            Some(Slot::Leaving { readers: 1 }) => self.release(place),
            Some(Slot::Leaving { readers }) => self.set(place, Slot::Leaving { readers: readers - 1 }),
            _ => {}
        }
    }

    /// Slots that hold nothing.
    pub(super) fn num_free(&self) -> usize {
        self.free.len()
    }

    /// A free slot for a page that is to be written; those taken one after the other are neighbours where they can be.
    pub(super) fn take_free(&mut self) -> Option<Place> {
        self.free.pop_first()
    }

    /// Gives a page up for its slot, one that is neither pinned nor being read: of the lowest weight the least recently used. Where more
    /// than `most` are kept, those with a weight have no advantage over those without.
    pub(super) fn evict(&mut self, most: usize) -> Option<Place> {
        let idle =
            |(_, place): &&(u64, Place)| matches!(self.get(*place), Some(Slot::Filled { readers: 0, .. }));
        let first = |weights: RangeInclusive<u8>| {
            self.order.range(weights).find_map(|(_, pages)| pages.iter().find(idle)).copied()
        };
        let (_, place) = match (first(0..=0), first(1..=u8::MAX)) {
            (Some(plain), Some(weighted)) if self.num_kept() > most => plain.min(weighted),
            (plain, weighted) => plain.or(weighted)?,
        };
        self.remove_at(place);
        self.free.remove(&place);
        Some(place)
    }

    /// A page is being written to a slot that was taken or evicted.
    pub(super) fn begin_write(&mut self, place: Place, key: Key) {
        self.places.insert(key, place);
        self.set(place, Slot::Writing { key, page: None, wanted: true });
    }

    /// The page is in its slot; its record is to follow.
    pub(super) fn begin_record(&mut self, place: Place, page: Page) {
        if let Some(Slot::Writing { key, wanted, .. }) = self.get(place) {
            self.set(place, Slot::Writing { key, page: Some(page), wanted });
            self.mark(place);
        }
    }

    /// The page and its record were written, or were not.
    pub(super) fn end_write(&mut self, place: Place, good: bool) {
        let Some(Slot::Writing { key, page, wanted }) = self.get(place) else { return };
        if let (Some(page), true) = (page, good && wanted) {
            self.set(place, Slot::Filled { page, readers: 0 });
            self.list(place, &page);
        } else {
            if wanted {
                self.places.remove(&key);
            }
            self.release(place);
        }
    }

    /// Removes a page, also one that is being read or written. False when there was none.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        self.places.get(key).copied().is_some_and(|place| self.remove_at(place))
    }

    /// Slots of a segment whose record on disk differs; they count as written from here on.
    pub(super) fn take_changed(&mut self, segment: u64) -> Vec<(u32, Option<Page>)> {
        let Some(slots) = self.segments.get_mut(&segment) else { return Vec::new() };
        let changed = std::mem::take(&mut slots.changed);
        let page = |slot: u32| match slots.slots[slot as usize] {
            Slot::Filled { page, .. } => Some(page),
            Slot::Writing { page, wanted: true, .. } => page,
            _ => None,
        };
        changed.into_iter().map(|slot| (slot, page(slot))).collect()
    }

    /// Their records could not be written.
    pub(super) fn put_changed(&mut self, segment: u64, slots: impl Iterator<Item = u32>) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.changed.extend(slots);
        }
    }

    fn remove_at(&mut self, place: Place) -> bool {
        match self.get(place) {
            Some(Slot::Filled { page, readers }) => {
                self.places.remove(&page.key);
                self.unlist(place, &page);
                if readers == 0 {
                    self.release(place);
                } else {
                    self.set(place, Slot::Leaving { readers });
                    self.mark(place);
                }
                true
            }
            Some(Slot::Writing { key, page, wanted: true }) => {
                self.places.remove(&key);
                self.set(place, Slot::Writing { key, page, wanted: false });
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, place: Place) {
        if self.get(place).is_some() {
            self.set(place, Slot::Free);
            self.free.insert(place);
            self.mark(place);
        }
    }

    fn mark(&mut self, place: Place) {
        self.put_changed(place.segment, std::iter::once(place.slot));
    }

    fn change(&mut self, place: Place, change: impl FnOnce(&mut Page)) {
        if let Some(Slot::Filled { mut page, readers }) = self.get(place) {
            self.unlist(place, &page);
            change(&mut page);
            self.list(place, &page);
            self.set(place, Slot::Filled { page, readers });
            self.mark(place);
        }
    }

    fn list(&mut self, place: Place, page: &Page) {
        if page.pinned_until > 0 {
            self.pinned.insert((page.pinned_until, place));
        } else {
            self.order.entry(page.weight).or_default().insert((page.used_at, place));
        }
    }

    fn unlist(&mut self, place: Place, page: &Page) {
        self.pinned.remove(&(page.pinned_until, place));
        if let Some(pages) = self.order.get_mut(&page.weight) {
            pages.remove(&(page.used_at, place));
        }
    }

    fn get(&self, place: Place) -> Option<Slot> {
        self.segments.get(&place.segment)?.slots.get(place.slot as usize).copied()
    }

    fn set(&mut self, place: Place, slot: Slot) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.slots[place.slot as usize] = slot;
        }
    }

    /// For tests: every page is found by its key, listed once, and no free slot holds one. Nothing is being read or written.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut filled, mut free) = (0, 0);
        for (&segment, slots) in &self.segments {
            for (slot, state) in (0..).zip(&slots.slots) {
                let place = Place { segment, slot };
                match state {
                    Slot::Free => {
                        free += 1;
                        assert!(self.free.contains(&place), "{place:?} is free and not listed");
                    }
                    Slot::Filled { page, readers: 0 } => {
                        filled += 1;
                        assert_eq!(self.places.get(&page.key), Some(&place));
                        let pinned = self.pinned.contains(&(page.pinned_until, place));
                        let in_order =
                            self.order.values().any(|pages| pages.contains(&(page.used_at, place)));
                        assert!(pinned == (page.pinned_until > 0) && in_order != pinned, "{page:?}");
                    }
                    other => panic!("{place:?} is in use: {other:?}"),
                }
            }
        }
        assert_eq!((filled, free), (self.places.len(), self.free.len()));
        assert_eq!(filled, self.num_pages());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::key;

    #[test]
    fn a_slot_is_nobody_elses_while_its_page_is_read() {
        let mut index = Index::default();
        index.add_segment(1, 1);
        let place = index.take_free().unwrap();
        let page = Page { key: key(1), checksum: 1, stored_at: 1, used_at: 1, pinned_until: 0, weight: 0 };
        index.begin_write(place, page.key);
        index.begin_record(place, page);
        index.end_write(place, true);
        index.begin_read(place, 2);
        index.begin_read(place, 3);
        assert_eq!(index.evict(0), None, "it is being read");
        assert!(index.remove(&page.key) && index.find(&page.key) == Found::Nothing);
        assert_eq!(index.take_free(), None);
        index.end_read(place, true);
        assert_eq!(index.take_free(), None, "one reader is left");
        index.end_read(place, true);
        assert_eq!(index.take_free(), Some(place));
    }
}
