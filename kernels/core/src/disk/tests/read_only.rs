//! Folders that this process may read and not write.
#![expect(unsafe_code, reason = "a thread becomes somebody else")]

use super::files::options;
use super::simulated::{SimulatedDisk, SimulatedFile};
use super::{SECOND, TestClock, codes, has, open, read, spec, write};
use crate::disk::DiskStore;
use crate::disk::store::Spec;
use crate::disk::testing::{TestFolder, content, key};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_folder_that_cannot_be_written_serves_what_it_holds_and_stays_as_it_is() {
    let spec = Spec { ttl: 20 * SECOND, ..spec(2, 2) };
    let (disk, clock) = (SimulatedDisk::new(spec.limit), TestClock::new());
    let store = open(&disk, &spec, &clock);
    write(&store, &[1, 2, 3]);
    store.end();
    // And a file that was cut off while it was made.
    disk.lock().files.insert(99, SimulatedFile::default());
    let files = || {
        let state = disk.lock();
        state.files.iter().map(|(&id, file)| (id, file.bytes.clone())).collect::<Vec<_>>()
    };
    let before = files();
    disk.lock().is_read_only = true;
    let store = open(&disk, &spec, &clock);
    assert!(store.stats().is_read_only);
    assert_eq!(codes(&read(&store, &[1, 2, 3, 4])), ["ok", "ok", "ok", "missing"]);
    assert_eq!(codes(&write(&store, &[4, 5])), ["read_only", "read_only"]);
    assert_eq!(store.pin(&[key(1)], clock.now() + 30 * SECOND), [true]);
    assert_eq!(store.remove(&[key(3)]), 1);
    clock.advance(21 * SECOND);
    store.upkeep();
    assert_eq!(
        has(&store, &[1, 2, 3]),
        [true, false, false],
        "pins, the TTL and removals hold until it is closed"
    );
    assert_eq!(codes(&read(&store, &[1])), ["ok"]);
    store.clear();
    store.upkeep();
    assert_eq!(has(&store, &[1]), [false]);
    store.end();
    assert!(files() == before, "a read-only folder was changed");
    // Where it can be written again nothing is lost.
    disk.lock().is_read_only = false;
    let clock = TestClock::new();
    assert_eq!(codes(&read(&open(&disk, &spec, &clock), &[1, 2, 3])), ["ok", "ok", "ok"]);
    assert!(!open(&disk, &spec, &clock).stats().is_read_only);
}

fn set_modes(folder: &Path, folder_mode: u32, file_mode: u32) {
    for file in std::fs::read_dir(folder).unwrap() {
        std::fs::set_permissions(file.unwrap().path(), Permissions::from_mode(file_mode)).unwrap();
    }
    std::fs::set_permissions(folder, Permissions::from_mode(folder_mode)).unwrap();
}

/// Runs as one whose files these are not: modes do not bind root.
fn as_a_stranger<T>(body: impl FnOnce() -> T) -> T {
    const STRANGER: u32 = 65_534;
    // SAFETY: changes nothing but whose files this thread may open; refused for who is not root, whom modes bind.
    let before = unsafe { libc::setfsuid(STRANGER) };
    let result = body();
    // SAFETY: as above.
    unsafe { libc::setfsuid(before as u32) };
    result
}

#[test]
fn folders_of_somebody_else_are_read_by_several_at_once_and_one_that_cannot_be_read_is_refused() {
    let test = TestFolder::new("read-only");
    let options = options(&test.path);
    let store = DiskStore::open(&options).unwrap();
    let page = content(1, options.page_bytes);
    assert_eq!(store.write(&[(key(1), &page)]), [Ok(())]);
    assert!(store.close(Duration::MAX));
    set_modes(&test.path, 0o555, 0o444);
    let stores = as_a_stranger(|| [DiskStore::open(&options).unwrap(), DiskStore::open(&options).unwrap()]);
    for store in &stores {
        assert!(store.stats().is_read_only);
        let mut read = vec![0; options.page_bytes];
        assert_eq!(store.read(&mut [(key(1), &mut read)]), [Ok(())]);
        assert!(read == page);
        let refused = store.write(&[(key(2), &content(2, options.page_bytes))]).remove(0).unwrap_err();
        assert_eq!(refused.code, "read_only");
        assert!(store.close(Duration::MAX));
    }
    set_modes(&test.path, 0o000, 0o444);
    let failure = as_a_stranger(|| DiskStore::open(&options).unwrap_err());
    let folder = test.path.display().to_string();
    assert!(failure.message.starts_with(&folder), "{failure}");
    assert!(failure.message.contains("for the disk tier: Permission denied"), "{failure}");
    set_modes(&test.path, 0o700, 0o600);
    let store = DiskStore::open(&options).unwrap();
    assert!(!store.stats().is_read_only && store.has(&[key(1)])[0]);
    assert!(store.close(Duration::MAX));
}
