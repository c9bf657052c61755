//! The name of a page's content: the hash of its tokens and of all before them, and the group of layers.

use crate::error::{Failure, Result};
use std::fmt;

/// Bytes of a key: 32 of the hash, 4 of the group.
pub const KEY_BYTES: usize = 36;
/// 32-bit words of a key, as callers hand them over.
pub const KEY_WORDS: usize = KEY_BYTES / 4;

/// See the module. Any bytes are one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; KEY_BYTES]);

impl Key {
    /// The keys in a flat list of words: 8 of the hash, then the group.
    ///
    /// # Errors
    /// `internal` when the list does not hold whole keys.
    pub fn all_of(words: &[i32]) -> Result<Vec<Self>> {
        let (keys, rest) = words.as_chunks::<KEY_WORDS>();
        if !rest.is_empty() {
            return Err(Failure::internal(format!("{} words are no whole keys of {KEY_WORDS}", words.len())));
        }
        Ok(keys.iter().map(Self::of).collect())
    }

    fn of(words: &[i32; KEY_WORDS]) -> Self {
        let mut bytes = [0; KEY_BYTES];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        Self(bytes)
    }

    /// The words of the key, as [`Self::all_of`] takes them.
    pub fn words(&self) -> [i32; KEY_WORDS] {
        let mut words = [0; KEY_WORDS];
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(*bytes);
        }
        words
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..KEY_BYTES - 4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ":{}", self.words()[KEY_WORDS - 1])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_are_the_same_key() {
        let words: Vec<i32> = (0..18).map(|i| i * 0x0123_4567).collect();
        let keys = Key::all_of(&words).unwrap();
        assert_eq!(keys.iter().flat_map(Key::words).collect::<Vec<_>>(), words);
        assert_ne!(keys[0], keys[1]);
        let text = format!("{}", Key::all_of(&[1, 0, 0, 0, 0, 0, 0, -1, 7]).unwrap()[0]);
        assert_eq!(text, format!("01000000{}ffffffff:7", "0".repeat(48)));
        assert!(Key::all_of(&words[1..]).unwrap_err().message.starts_with("17 words"));
    }
}
