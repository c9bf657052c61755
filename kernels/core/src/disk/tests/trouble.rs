//! Disks that fail, hang, fill up and lose files, and what other models have left.

use super::simulated::SimulatedDisk;
use super::{PAGE, SECOND, TestClock, codes, has, open, read, spec, write};
use crate::disk::DiskError;
use crate::disk::layout::Layout;
use crate::disk::record::of_version;
use crate::disk::store::Spec;
use crate::disk::testing::{content, key};
use crate::testing::Random;

fn world(spec: &Spec) -> (SimulatedDisk, TestClock) {
    (SimulatedDisk::new(spec.limit), TestClock::new())
}

fn codes_of(results: &[Result<(), DiskError>]) -> Vec<String> {
    codes(results).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_disk_that_refuses_writes_is_left_alone_for_a_while_and_still_read() {
    let spec = spec(1, 8);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    assert_eq!(codes(&write(&store, &[1, 2])), ["ok", "ok"]);
    for (error, code) in [(libc::EIO, "EIO"), (libc::EROFS, "EROFS"), (libc::ENOSPC, "ENOSPC")] {
        disk.lock().fail_write = Some(error);
        assert_eq!(codes(&write(&store, &[1, 3, 4])), ["ok", code, code]);
        disk.lock().fail_write = None;
        assert_eq!(codes(&write(&store, &[3])), ["paused"]);
        let trouble = store.stats().trouble.unwrap();
        assert_eq!((trouble.error.code, trouble.until - clock.now()), (code.into(), SECOND));
        assert_eq!(codes(&read(&store, &[1, 3, 2])), ["ok", "missing", "ok"]);
        clock.advance(SECOND);
        assert_eq!(codes(&write(&store, &[5])), ["ok"]);
        assert!(store.stats().trouble.is_none());
        store.remove(&[key(5)]);
    }
    let failures = store.stats().failures;
    assert_eq!((failures["EIO"], failures["paused"], failures.get("missing")), (2, 3, None));
    store.lock().index.check();
}

#[test]
fn where_no_segment_can_be_made_pages_take_the_place_of_others() {
    let spec = spec(3, 2);
    let (disk, clock) = world(&spec);
    disk.lock().fail_create = Some(libc::ENOSPC);
    let store = open(&disk, &spec, &clock);
    assert_eq!(codes(&write(&store, &[1])), ["ENOSPC"]);
    assert_eq!(codes(&write(&store, &[1])), ["paused"]);
    disk.lock().fail_create = None;
    clock.advance(SECOND);
    assert_eq!(codes(&write(&store, &[1, 2])), ["ok", "ok"]);
    disk.lock().fail_create = Some(libc::ENOSPC);
    assert_eq!(codes(&write(&store, &[3])), ["ok"]);
    assert_eq!(has(&store, &[1, 2, 3]), [false, true, true]);
    assert_eq!(store.stats().trouble.unwrap().error.code, "ENOSPC");
    disk.lock().fail_create = None;
    clock.advance(SECOND);
    assert_eq!(codes(&write(&store, &[1])), ["ok"]);
    assert_eq!(has(&store, &[1, 2, 3]), [true; 3]);
    assert!(store.stats().trouble.is_none());
}

#[test]
fn a_page_that_cannot_be_read_takes_no_other_along_and_is_forgotten() {
    let spec = spec(1, 8);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2, 3, 4]);
    let id = *disk.lock().files.keys().next().unwrap();
    let at = |slot: u32| Layout { page_bytes: PAGE, slots: 8 }.slot_at(slot) as usize;
    disk.lock().bad_byte = Some((id, at(1) + 7));
    disk.lock().files.get_mut(&id).unwrap().bytes[at(2) + 100] ^= 4;
    assert_eq!(codes(&read(&store, &[1, 2, 3, 4])), ["ok", "EIO", "checksum", "ok"]);
    assert_eq!(codes(&read(&store, &[1, 2, 3, 4])), ["ok", "missing", "missing", "ok"]);
    disk.lock().bad_byte = None;
    disk.lock().files.get_mut(&id).unwrap().bytes.truncate(at(3) + 1);
    assert_eq!(codes(&read(&store, &[1, 4])), ["ok", "short_read"]);
    assert_eq!(codes(&write(&store, &[4, 5])), ["ok", "ok"]);
    assert_eq!(codes(&read(&store, &[4, 5])), ["ok", "ok"]);
}

#[test]
fn a_file_that_was_deleted_gives_its_room_back() {
    let spec = spec(2, 3);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2, 3, 4]);
    let before = store.stats().bytes;
    disk.lock().files.pop_first();
    store.upkeep();
    assert_eq!(has(&store, &[1, 2, 3, 4]), [false, false, false, true]);
    assert_eq!(store.stats().bytes, before - spec.segment_bytes);
    assert_eq!(store.stats().trouble.unwrap().error.code, "ENOENT");
    clock.advance(SECOND);
    assert!(write(&store, &[5, 6, 7]).iter().all(Result::is_ok));
    assert_eq!(has(&store, &[4, 5, 6, 7]), [true; 4]);
}

#[test]
fn a_record_that_cannot_be_written_is_a_page_that_was_not_stored() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1]);
    // The page goes through, its record does not.
    disk.cut_after(PAGE.next_multiple_of(4096) as u64 + 10);
    assert_eq!(codes(&write(&store, &[2])), ["EIO"]);
    assert_eq!(has(&store, &[1, 2]), [true, false]);
}

#[test]
fn records_that_could_not_be_written_are_written_later() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2]);
    store.upkeep();
    store.remove(&[key(1)]);
    store.pin(&[key(2)], clock.now() + 100 * SECOND);
    disk.lock().fail_write = Some(libc::EIO);
    store.upkeep();
    assert_eq!(store.stats().trouble.unwrap().error.code, "EIO");
    disk.lock().fail_write = None;
    clock.advance(SECOND);
    store.upkeep();
    let store = open(&disk.after_kill(), &spec, &clock);
    assert_eq!((has(&store, &[1, 2]), store.stats().pinned_pages), (vec![false, true], 1));
}

#[test]
fn pages_whose_sync_failed_are_synced_later() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2]);
    disk.lock().fail_sync = Some(libc::EIO);
    store.upkeep();
    assert_eq!(store.stats().trouble.unwrap().error.code, "EIO");
    disk.lock().fail_sync = None;
    clock.advance(SECOND);
    store.upkeep();
    for seed in 0..10 {
        let after = disk.after_power_cut(&mut Random(seed));
        assert_eq!(codes(&read(&open(&after, &spec, &clock), &[1, 2])), ["ok", "ok"], "seed {seed}");
    }
}

#[test]
fn a_page_that_another_one_was_to_write_fails_with_it() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    // The second waits for the first.
    assert_eq!(codes(&write(&store, &[1, 1])), ["ok", "ok"]);
    disk.lock().fail_write = Some(libc::EIO);
    assert_eq!(codes(&write(&store, &[2, 2])), ["EIO", "missing"]);
}

#[test]
fn pages_behind_the_end_of_a_file_are_not_there() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2, 3, 4]);
    store.end();
    let ends = Layout { page_bytes: PAGE, slots: 4 }.slot_at(3) as usize;
    for (len, is_whole) in [(ends, true), (ends - 1, false)] {
        disk.lock().files.values_mut().for_each(|file| file.bytes.truncate(len));
        let store = open(&disk, &spec, &clock);
        assert_eq!(has(&store, &[1, 2, 3, 4]), [true, true, is_whole, false]);
        assert_eq!(read(&store, &[3])[0].is_ok(), is_whole);
    }
}

/// Lets held writes go, also where a test fails: its threads end.
struct Released<'a>(&'a SimulatedDisk);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[test]
fn a_page_that_is_being_written_is_served_from_memory() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1]);
    disk.lock().is_held = true;
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(codes(&write(&store, &[2, 3])), ["ok", "ok"]));
        let released = Released(&disk);
        disk.wait_for_writer();
        assert_eq!(has(&store, &[1, 2, 3, 4]), [true, true, true, false]);
        assert_eq!(codes(&read(&store, &[3, 1, 2])), ["ok", "ok", "ok"]);
        // What is asked and forgotten waits for no disk; what was forgotten while it was written is not there afterwards.
        assert_eq!(store.remove(&[key(3)]), 1);
        assert_eq!(store.stats().pages, 1);
        // Others who store them wait: only what is on the disk is reported as stored.
        let others = scope.spawn(|| codes_of(&write(&store, &[2, 2])));
        assert!(!others.is_finished());
        drop(released);
        assert_eq!(others.join().unwrap(), ["ok", "ok"]);
    });
    assert_eq!(codes(&read(&store, &[1, 2, 3])), ["ok", "ok", "missing"]);
    store.lock().index.check();
}

#[test]
fn what_other_models_left_goes_first_and_is_never_given_out() {
    let spec = spec(3, 2);
    let (disk, clock) = world(&spec);
    let others = [[2; 32], [3; 32]].map(|fingerprint| Spec { fingerprint, ..spec.clone() });
    for other in &others {
        let store = open(&disk, other, &clock);
        assert!(write(&store, &[1, 2]).iter().all(Result::is_ok));
        store.end();
    }
    let store = open(&disk, &spec, &clock);
    assert_eq!(has(&store, &[1, 2]), [false, false]);
    assert_eq!(store.stats().stale_bytes, 2 * spec.segment_bytes);
    write(&store, &[1, 2, 3]);
    assert_eq!(store.stats().stale_bytes, spec.segment_bytes, "the older one went");
    store.end();
    let store = open(&disk, &others[1], &clock);
    assert_eq!(codes(&read(&store, &[1, 2])), ["ok", "ok"]);
    store.end();
    let store = open(&disk, &spec, &clock);
    assert_eq!(has(&store, &[1, 2, 3]), [true; 3], "nothing of one's own before");
    write(&store, &[4, 5]);
    assert_eq!((store.stats().stale_bytes, has(&store, &[1, 2, 3, 4, 5])), (0, vec![true; 5]));
    // Another size of pages is another model too.
    store.end();
    let store = open(&disk, &Spec { page_bytes: PAGE + 1, ..spec.clone() }, &clock);
    assert_eq!((has(&store, &[1]), store.stats().stale_bytes), (vec![false], 3 * spec.segment_bytes));
}

#[test]
fn a_smaller_limit_keeps_what_was_used_last() {
    let wide = spec(3, 2);
    let (disk, clock) = world(&wide);
    let store = open(&disk, &wide, &clock);
    for number in 1..=6 {
        clock.advance(SECOND);
        write(&store, &[number]);
    }
    read(&store, &[1]);
    store.end();
    let store = open(&disk, &spec(2, 2), &clock);
    assert_eq!(has(&store, &[1, 2, 3, 4, 5, 6]), [true, true, false, false, true, true]);
    assert!(disk.lock().total() <= spec(2, 2).limit && store.stats().bytes <= spec(2, 2).limit);
}

#[test]
fn clearing_deletes_the_files_of_all_models() {
    let spec = spec(3, 2);
    let (disk, clock) = world(&spec);
    let other = open(&disk, &Spec { fingerprint: [2; 32], ..spec.clone() }, &clock);
    write(&other, &[1]);
    other.end();
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2]);
    store.clear();
    assert_eq!(has(&store, &[1, 2]), [false, false]);
    disk.lock().fail_remove = Some(libc::EROFS);
    store.upkeep();
    assert_eq!(disk.lock().files.len(), 2);
    disk.lock().fail_remove = None;
    store.upkeep();
    assert_eq!((disk.lock().files.len(), store.stats().bytes), (0, 4096));
    assert_eq!(codes(&write(&store, &[1])), ["ok"]);
}

#[test]
fn with_a_ttl_unused_pages_of_all_models_go() {
    let spec = Spec { ttl: 10 * SECOND, ..spec(3, 4) };
    let (disk, clock) = world(&spec);
    let other = open(&disk, &Spec { fingerprint: [2; 32], ..spec.clone() }, &clock);
    write(&other, &[1]);
    other.end();
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2, 3]);
    store.pin(&[key(2)], clock.now() + 15 * SECOND);
    clock.advance(6 * SECOND);
    read(&store, &[3]);
    // No two pages were stored at one time.
    clock.advance(4 * SECOND + 10);
    assert_eq!(has(&store, &[1, 2, 3]), [false, true, true]);
    assert_eq!(codes(&read(&store, &[1])), ["missing"]);
    store.upkeep();
    assert_eq!((store.stats().expired, store.stats().pages, store.stats().stale_bytes), (1, 2, 0));
    clock.advance(5 * SECOND);
    store.upkeep();
    assert_eq!(has(&store, &[1, 2, 3]), [false, false, true]);
}

#[test]
fn a_clock_that_was_ahead_keeps_no_page_for_longer() {
    let spec = Spec { ttl: 10 * SECOND, ..spec(1, 4) };
    let (disk, clock) = world(&spec);
    let ahead = TestClock::new();
    ahead.advance(1_000_000 * SECOND);
    let store = open(&disk, &spec, &ahead);
    write(&store, &[1]);
    store.end();
    let store = open(&disk, &spec, &clock);
    clock.advance(9 * SECOND);
    assert_eq!(has(&store, &[1]), [true]);
    clock.advance(SECOND);
    assert_eq!(has(&store, &[1]), [false]);
}

#[test]
fn pins_beyond_a_smaller_share_end_with_those_that_would_end_first() {
    let wide = Spec { pin_share: 1.0, ..spec(1, 4) };
    let (disk, clock) = world(&wide);
    let store = open(&disk, &wide, &clock);
    write(&store, &[1, 2, 3, 4]);
    for (number, seconds) in [(1, 40), (2, 10), (3, 30), (4, 20)] {
        assert_eq!(store.pin(&[key(number)], clock.now() + seconds * SECOND), [true]);
    }
    assert_eq!(codes(&write(&store, &[5])), ["full"]);
    store.end();
    let store = open(&disk, &Spec { pin_share: 0.3, ..wide }, &clock);
    assert_eq!(store.stats().pinned_pages, 2);
    write(&store, &[5, 6]);
    assert_eq!(has(&store, &[1, 2, 3, 4, 5, 6]), [true, false, true, false, true, true]);
}

#[test]
fn pages_with_a_weight_go_last_after_a_restart_too_as_long_as_they_are_within_their_share() {
    let spec = Spec { pin_share: 0.3, ..spec(1, 4) };
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    for number in 1..=4 {
        write(&store, &[number]);
    }
    assert_eq!(store.weigh(&[key(1), key(9), key(2)], 3), [true, false, true]);
    assert_eq!(store.weigh(&[key(2)], 1), [true]);
    store.end();
    let store = open(&disk, &spec, &clock);
    assert_eq!((store.stats().kept_pages, store.stats().pinnable_pages), (2, 2));
    write(&store, &[5, 6]);
    assert_eq!(has(&store, &[1, 2, 3, 4, 5, 6]), [true, true, false, false, true, true]);
    // Three are more than the share: now the one of the lowest weight goes before others that were used later.
    assert_eq!(store.weigh(&[key(5)], 2), [true]);
    write(&store, &[7]);
    assert_eq!(has(&store, &[1, 2, 5, 6, 7]), [true, false, true, true, true]);
    write(&store, &[8]);
    assert_eq!(has(&store, &[1, 5, 6, 7, 8]), [true, true, false, true, true]);
}

#[test]
fn segments_of_another_version_go_first_and_are_not_read() {
    let spec = spec(2, 2);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2]);
    store.end();
    for file in disk.lock().files.values_mut() {
        let head = file.bytes.first_chunk_mut().unwrap();
        *head = of_version(head, b'1');
    }
    let store = open(&disk, &spec, &clock);
    assert_eq!((has(&store, &[1, 2]), store.stats().stale_bytes), (vec![false; 2], spec.segment_bytes));
    write(&store, &[1, 2]);
    assert_eq!(store.stats().stale_bytes, spec.segment_bytes, "there is room for both");
    write(&store, &[3]);
    assert_eq!((has(&store, &[1, 2, 3]), store.stats().stale_bytes), (vec![true; 3], 0));
}

#[test]
fn a_closed_store_takes_nothing_more() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1]);
    store.end();
    assert_eq!(codes(&write(&store, &[1, 2])), ["closed", "closed"]);
    let after = disk.after_power_cut(&mut Random(1));
    assert_eq!(codes(&read(&open(&after, &spec, &clock), &[1])), ["ok"]);
}

#[test]
fn a_page_of_another_key_in_a_slot_is_a_miss() {
    let spec = spec(1, 4);
    let (disk, clock) = world(&spec);
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2]);
    let layout = Layout { page_bytes: PAGE, slots: 4 };
    let id = *disk.lock().files.keys().next().unwrap();
    let other = content(2, PAGE);
    disk.lock().files.get_mut(&id).unwrap().bytes[layout.slot_at(0) as usize..][..PAGE]
        .copy_from_slice(&other);
    assert_eq!(codes(&read(&store, &[1, 2])), ["checksum", "ok"]);
}
