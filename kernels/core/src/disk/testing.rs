//! What tests of the store share.

use super::key::{KEY_BYTES, Key};
use crate::testing::Random;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new folder that goes with the value.
pub(crate) struct TestFolder {
    pub(crate) path: PathBuf,
}

impl TestFolder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("kvengine-disk-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}

/// The key of this number.
pub(crate) fn key(number: u64) -> Key {
    let mut bytes = [0; KEY_BYTES];
    let mut random = Random(number);
    for byte in &mut bytes {
        *byte = random.next() as u8;
    }
    Key(bytes)
}

/// The one right content of that key.
pub(crate) fn content(number: u64, page_bytes: usize) -> Vec<u8> {
    let mut random = Random(!number);
    (0..page_bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(page_bytes).collect()
}
