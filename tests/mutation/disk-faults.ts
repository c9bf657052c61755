/** The faults that `mutate-disk.ts` plants: small, plausible mistakes in the store of pages on a disk. */

import type { Fault } from "./plan.ts";

const DISK = "kernels/core/src/disk";
const TESTS = "disk::tests";
const MODEL = `${TESTS}::model::what_is_there_and_what_goes_next_is_what_the_model_says`;
const TROUBLE = `${TESTS}::trouble`;
const RECORD =
  "disk::record::tests::a_record_counts_only_in_its_own_slot_and_its_use_may_be_lost_alone";
const IN_USE = "disk::index::tests::a_slot_is_nobody_elses_while_its_page_is_read";
const BEING_WRITTEN = `${TROUBLE}::a_page_that_is_being_written_is_served_from_memory`;
const OTHER_MODELS = `${TROUBLE}::what_other_models_left_goes_first_and_is_never_given_out`;
const SMALLER_LIMIT = `${TROUBLE}::a_smaller_limit_keeps_what_was_used_last`;
const TTL = `${TROUBLE}::with_a_ttl_unused_pages_of_all_models_go`;

const WRONG_PAGES: readonly Fault[] = [
  {
    name: "disk-page-of-any-key",
    breaks: "a page passes for one of another prompt",
    file: `${DISK}/record.rs`,
    from: "    bytes[32..].copy_from_slice(&key.0);\n",
    to: "",
    tests: ["disk::record::tests::a_page_passes_for_its_own_key_and_model_only"],
  },
  {
    name: "disk-checksum-not-compared",
    breaks: "a torn or changed page is given out",
    file: `${DISK}/reads.rs`,
    from: "checksum(&self.spec.fingerprint, &key, read.to) != stored",
    to: "stored == 0",
    tests: [`${TROUBLE}::a_page_of_another_key_in_a_slot_is_a_miss`],
  },
  {
    name: "disk-record-of-any-slot",
    breaks: "a record counts in another slot than its own",
    file: `${DISK}/record.rs`,
    from: "        put.u32(slot);\n",
    to: "",
    tests: [RECORD],
  },
  {
    name: "disk-head-of-another-file",
    breaks: "a segment counts under another one's name",
    file: `${DISK}/record.rs`,
    from: "take.u64() == id",
    to: "take.u64() != 0",
    tests: ["disk::record::tests::a_head_counts_only_whole_and_in_its_own_file"],
  },
  {
    name: "disk-longer-than-its-head",
    breaks: "a file that something was added to counts as the one that was written",
    file: `${DISK}/layout.rs`,
    from: "file_bytes <= self.file_bytes()",
    to: "true",
    tests: ["disk::layout::tests::as_many_slots_as_fit_and_no_more"],
  },
  {
    name: "disk-pages-of-any-model",
    breaks: "pages that another model has left are said to be there",
    file: `${DISK}/recovery.rs`,
    from: "head.fingerprint != spec.fingerprint",
    to: "false",
    tests: [OTHER_MODELS],
  },
  {
    name: "disk-page-cut-off",
    breaks: "a page behind the end of its file is said to be there",
    file: `${DISK}/recovery.rs`,
    from: "head.layout.slot_at(slot + 1) <= listed.bytes",
    to: "true",
    tests: [`${TROUBLE}::pages_behind_the_end_of_a_file_are_not_there`],
  },
  {
    name: "disk-slot-reused-while-read",
    breaks: "a page is written over one that somebody reads",
    file: `${DISK}/index.rs`,
    from: "readers == 0",
    to: "readers < 100",
    tests: [IN_USE],
  },
  {
    name: "disk-evicted-while-read",
    breaks: "a page that somebody reads is given up for another one",
    file: `${DISK}/index.rs`,
    from: "matches!(self.get(*place), Some(Slot::Filled { readers: 0, .. }))",
    to: "matches!(self.get(*place), Some(Slot::Filled { .. }))",
    tests: [IN_USE],
  },
  {
    name: "disk-end-left-out",
    breaks: "what does not fill a block of a page is zeros when it comes back",
    file: `${DISK}/segment.rs`,
    from: "                end[..rest.len()].copy_from_slice(rest);\n",
    to: "",
    tests: ["disk::segment::tests::of_pages_that_lie_well_direct_io_can_have_everything"],
  },
];

const LOST_PAGES: readonly Fault[] = [
  {
    name: "disk-record-left-for-later",
    breaks: "a page is reported as stored, and is lost when the process is killed",
    file: `${DISK}/writes.rs`,
    from: "self.write_records(&part[0].segment)",
    to: "Ok::<(), DiskError>(())",
    tests: [`${TROUBLE}::a_record_that_cannot_be_written_is_a_page_that_was_not_stored`],
  },
  {
    name: "disk-upkeep-without-sync",
    breaks: "a power cut takes pages however long they have been there",
    file: `${DISK}/room.rs`,
    from: "if segment.unsynced() == 0 { Ok(()) } else { sync(&segment) }",
    to: "Ok(())",
    tests: [`${TESTS}::crash::a_crash_while_a_crash_is_recovered_from_costs_nothing_more`],
  },
  {
    name: "disk-failed-sync-forgotten",
    breaks: "what could not be synced once is never synced",
    file: `${DISK}/segment.rs`,
    from: "            self.unsynced.fetch_add(unsynced, Ordering::Relaxed);\n",
    to: "",
    tests: [`${TROUBLE}::pages_whose_sync_failed_are_synced_later`],
  },
  {
    name: "disk-failed-record-forgotten",
    breaks: "a removed page is back after a restart, a pin is gone",
    file: `${DISK}/writes.rs`,
    from: "            self.lock().index.put_changed(id, changed.iter().map(|(slot, _)| *slot));\n",
    to: "",
    tests: [`${TROUBLE}::records_that_could_not_be_written_are_written_later`],
  },
  {
    name: "disk-torn-use-takes-the-page",
    breaks: "a record that is torn while its page's use is noted costs the page",
    file: `${DISK}/record.rs`,
    from: "(stored_at, 0, 0)",
    to: "return None",
    tests: [RECORD],
  },
  {
    name: "disk-close-without-upkeep",
    breaks: "the folder stays locked, and the last uses are lost",
    file: `${DISK}/mod.rs`,
    from: "                self.store.end();\n",
    to: "",
    tests: [
      `${TESTS}::files::threads_share_a_store_and_every_page_is_right_and_there_after_a_restart`,
    ],
  },
  {
    name: "disk-store-not-waited-for",
    breaks:
      "a page that somebody else is writing is reported as stored, and is not when that fails",
    file: `${DISK}/writes.rs`,
    from: "                    others.push(entry);\n",
    to: "",
    tests: [`${TROUBLE}::a_page_that_another_one_was_to_write_fails_with_it`],
  },
  {
    name: "disk-written-not-served",
    breaks: "a page that is being written is a miss",
    file: `${DISK}/reads.rs`,
    from: "self.writing.copy(key, to)",
    to: "false",
    tests: [BEING_WRITTEN],
  },
];

const WRONG_ORDER: readonly Fault[] = [
  {
    name: "disk-newest-evicted",
    breaks: "the page that was used last goes first",
    file: `${DISK}/index.rs`,
    from: "pages.iter().find(idle)",
    to: "pages.iter().rev().find(idle)",
    tests: [MODEL],
  },
  {
    name: "disk-uses-at-one-time",
    breaks: "pages of one call go in the order of their slots",
    file: `${DISK}/index.rs`,
    from: "now.max(self.stamp.saturating_add(1))",
    to: "now",
    tests: [MODEL],
  },
  {
    name: "disk-use-not-written",
    breaks: "after a restart pages go in the order in which they were stored",
    file: `${DISK}/index.rs`,
    from: "            self.set(place, Slot::Filled { page, readers });\n            self.mark(place);\n",
    to: "            self.set(place, Slot::Filled { page, readers });\n",
    tests: [SMALLER_LIMIT],
  },
  {
    name: "disk-pins-ignored",
    breaks: "a pinned page goes like any other",
    file: `${DISK}/index.rs`,
    from: "            self.pinned.insert((page.pinned_until, place));\n",
    to: "            self.order.entry(page.weight).or_default().insert((page.used_at, place));\n",
    tests: [MODEL],
  },
  {
    name: "disk-pins-beyond-their-share",
    breaks: "pins may fill the disk",
    file: `${DISK}/store.rs`,
    from: "state.index.num_pinned() < most",
    to: "true",
    tests: [MODEL],
  },
  {
    name: "disk-weights-beyond-their-share",
    breaks: "pages that an urgent request has stored fill the disk for ever",
    file: `${DISK}/index.rs`,
    from: "self.num_kept() > most",
    to: "false",
    tests: [
      `${TROUBLE}::pages_with_a_weight_go_last_after_a_restart_too_as_long_as_they_are_within_their_share`,
    ],
  },
  {
    name: "disk-other-models-kept",
    breaks: "pages go while those of other models stay",
    file: `${DISK}/room.rs`,
    from: "room < wanted && !state.stale.is_empty()",
    to: "false",
    tests: [OTHER_MODELS],
  },
  {
    name: "disk-clock-ahead",
    breaks: "a page that was used while the clock was ahead stays beyond its time",
    file: `${DISK}/recovery.rs`,
    from: "page.used_at.min(now)",
    to: "page.used_at",
    tests: [`${TROUBLE}::a_clock_that_was_ahead_keeps_no_page_for_longer`],
  },
  {
    name: "disk-ttl-of-pinned",
    breaks: "a pinned page goes when its time is over",
    file: `${DISK}/store.rs`,
    from: "page.pinned_until <= now",
    to: "true",
    tests: [TTL],
  },
  {
    name: "disk-removed-while-written",
    breaks: "a page that was removed while it was written is there afterwards",
    file: `${DISK}/index.rs`,
    from: "good && wanted",
    to: "good",
    tests: [BEING_WRITTEN],
  },
];

const ROOM_AND_TROUBLE: readonly Fault[] = [
  {
    name: "disk-new-segments-not-counted",
    breaks: "files take more than the limit",
    file: `${DISK}/room.rs`,
    from: "        state.bytes += layout.file_bytes();\n",
    to: "",
    tests: [MODEL],
  },
  {
    name: "disk-limit-not-asked-at-open",
    breaks: "a limit that was made smaller does not hold",
    file: `${DISK}/recovery.rs`,
    from: "bytes <= room",
    to: "true",
    tests: [SMALLER_LIMIT],
  },
  {
    name: "disk-deleted-still-counted",
    breaks: "room that a deleted file has given back is never used again",
    file: `${DISK}/room.rs`,
    from: "                state.bytes -= file.bytes;\n",
    to: "",
    tests: [`${TROUBLE}::clearing_deletes_the_files_of_all_models`],
  },
  {
    name: "disk-read-only-cleaned-up",
    breaks: "files are deleted in a folder that is somebody else's",
    file: `${DISK}/room.rs`,
    from: "!self.is_read_only",
    to: "true",
    tests: [
      `${TESTS}::read_only::a_folder_that_cannot_be_written_serves_what_it_holds_and_stays_as_it_is`,
    ],
  },
  {
    name: "disk-never-paused",
    breaks: "every page is tried on a disk that takes none",
    file: `${DISK}/trouble.rs`,
    from: "now < trouble.until",
    to: "false",
    tests: [`${TROUBLE}::a_disk_that_refuses_writes_is_left_alone_for_a_while_and_still_read`],
  },
  {
    name: "disk-lock-not-taken",
    breaks: "two processes write one folder",
    file: `${DISK}/lock.rs`,
    from: "file.try_lock()",
    to: "Ok::<(), TryLockError>(())",
    tests: ["disk::lock::tests::a_second_holder_is_told_who_has_it_and_what_to_do"],
  },
  {
    name: "disk-lock-of-another",
    breaks: "files are made in a folder that was deleted and is another process's now",
    file: `${DISK}/lock.rs`,
    from: "(ours.dev(), ours.ino()) == (there.dev(), there.ino())",
    to: "true",
    tests: ["disk::lock::tests::a_lock_that_was_deleted_holds_nothing"],
  },
];

export const DISK_FAULTS: readonly Fault[] = [
  ...WRONG_PAGES,
  ...LOST_PAGES,
  ...WRONG_ORDER,
  ...ROOM_AND_TROUBLE,
];
