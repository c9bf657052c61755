//! Names of KV blocks by content: vLLM's `sha256_cbor`, the SHA-256 of the canonical CBOR (RFC 8949) of
//! `[hash of the block before, [token ids], extra keys or null]`.

use crate::error::{Failure, Result};
use sha2::block_api::compress256;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// What a block's KV depends on beside its tokens: pairs of a name and a value.
pub type ExtraKeys<'a> = &'a [(&'a str, &'a str)];

type Hash = [u8; HASH_BYTES];

/// Major types of CBOR.
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const NULL: u8 = 0xF6;

/// Bytes of the largest head with an argument below 2^32.
const HEAD_BYTES: usize = 5;
const CHUNK: usize = 64;
/// FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];

/// The parent of a first block: the hash of the seed's text alone.
pub fn none_hash(seed: &str) -> Hash {
    let mut message = Message::with_room_for(HEAD_BYTES + seed.len());
    message.text(seed);
    message.hash()
}

/// Writes the hashes of the full blocks of `tokens` to `out`, one after the other, when `parent` is the hash of the block
/// before. The salt of a request is an extra key of its first block only.
///
/// # Errors
/// `internal`, naming the field, what it holds and what is allowed.
pub fn hash_blocks(
    parent: &[u8],
    tokens: &[i32],
    block_size: usize,
    first_block_salt: Option<&str>,
    out: &mut [u8],
) -> Result<()> {
    let Ok(mut parent) = Hash::try_from(parent) else {
        return Err(bad("length of parent", parent.len(), format_args!("{HASH_BYTES}")));
    };
    check(tokens, block_size, tokens.len().checked_div(block_size).unwrap_or(0), out)?;
    let salt = first_block_salt.map(|salt| ("cache_salt", salt));
    let mut extra = salt.as_slice();
    let mut message = Message::with_room_for(block_bytes(block_size.min(tokens.len()), extra));
    for (block, out) in tokens.chunks_exact(block_size).zip(out.as_chunks_mut().0) {
        message.block(&parent, block, extra);
        parent = message.hash();
        *out = parent;
        extra = &[];
    }
    Ok(())
}

/// Writes the hashes of blocks that have nothing to do with each other to `out`: block `i` is `tokens[i * block_size..]`
/// behind the block whose hash is `parents[i * 32..]`. No extra keys.
///
/// # Errors
/// As [`hash_blocks`].
pub fn hash_each(parents: &[u8], tokens: &[i32], block_size: usize, out: &mut [u8]) -> Result<()> {
    let (parents, rest) = parents.as_chunks::<HASH_BYTES>();
    check(tokens, block_size, parents.len(), out)?;
    let length = parents.len() * block_size;
    if !rest.is_empty() || tokens.len() != length {
        return Err(bad("number of tokens", tokens.len(), format_args!("{length}, a block for each parent")));
    }
    let mut message = Message::with_room_for(block_bytes(block_size.min(tokens.len()), &[]));
    let blocks = tokens.chunks_exact(block_size);
    for ((parent, block), out) in parents.iter().zip(blocks).zip(out.as_chunks_mut().0) {
        message.block(parent, block, &[]);
        *out = message.hash();
    }
    Ok(())
}

fn check(tokens: &[i32], block_size: usize, num_blocks: usize, out: &[u8]) -> Result<()> {
    if block_size == 0 {
        return Err(bad("blockSize", block_size, "1 or more"));
    }
    if out.len() != num_blocks * HASH_BYTES {
        return Err(bad("length of out", out.len(), num_blocks * HASH_BYTES));
    }
    // Without an early end the loop is vectorised.
    if tokens.iter().fold(0, |all, token| all | token) < 0 {
        let token = tokens.iter().min().copied().unwrap_or_default();
        return Err(bad("tokens", token, "0 or more"));
    }
    Ok(())
}

fn bad(field: &str, found: impl std::fmt::Display, allowed: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("{field} is {found}, allowed is {allowed}"))
}

/// Most bytes of a block's message.
fn block_bytes(block_size: usize, extra: ExtraKeys<'_>) -> usize {
    let extra: usize = extra.iter().map(|(name, value)| 3 * HEAD_BYTES + name.len() + value.len()).sum();
    4 * HEAD_BYTES + HASH_BYTES + block_size * HEAD_BYTES + extra
}

/// CBOR that is hashed as soon as it is whole, in memory that is used again.
struct Message {
    bytes: Vec<u8>,
    len: usize,
}

impl Message {
    /// Room for this many bytes and for stores of a fixed size that reach beyond them: a number's 8 bytes, the padding.
    fn with_room_for(bytes: usize) -> Self {
        Self { bytes: vec![0; (bytes + CHUNK).next_multiple_of(CHUNK) + CHUNK], len: 0 }
    }

    fn block(&mut self, parent: &Hash, tokens: &[i32], extra: ExtraKeys<'_>) {
        self.head(ARRAY, 3);
        self.head(BYTES, HASH_BYTES);
        self.raw(parent);
        self.head(ARRAY, tokens.len());
        let bytes = self.bytes.as_mut_slice();
        self.len = tokens.iter().fold(self.len, |at, &token| write_number(bytes, at, token as u32));
        if extra.is_empty() {
            return self.raw(&[NULL]);
        }
        self.head(ARRAY, extra.len());
        for (name, value) in extra {
            self.head(ARRAY, 2);
            self.text(name);
            self.text(value);
        }
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn text(&mut self, text: &str) {
        self.head(TEXT, text.len());
        self.raw(text.as_bytes());
    }

    #[inline]
    fn head(&mut self, major: u8, argument: usize) {
        let at = self.len;
        self.len = write_number(&mut self.bytes, at, argument as u32);
        self.bytes[at] |= major << 5;
    }

    /// The hash of what was written, which is forgotten.
    fn hash(&mut self) -> Hash {
        let len = std::mem::take(&mut self.len);
        let end = (len + 1 + size_of::<u64>()).next_multiple_of(CHUNK);
        let mut padding = [0; CHUNK];
        padding[0] = 0x80;
        self.bytes[len..len + CHUNK].copy_from_slice(&padding);
        self.bytes[end - size_of::<u64>()..end].copy_from_slice(&(len as u64 * 8).to_be_bytes());
        let mut state = INITIAL;
        compress256(&mut state, self.bytes[..end].as_chunks().0);
        let mut hash = [0; HASH_BYTES];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

/// Writes a number in the fewest bytes, 0, 1, 2 or 4 of them after the head, and answers where they end. Token ids of all
/// sizes come mixed, so there is no branch to guess wrong.
#[inline]
fn write_number(bytes: &mut [u8], at: usize, value: u32) -> usize {
    const HEAD: [u8; 4] = [0, 24, 25, 26];
    const LEN: [u8; 4] = [1, 2, 3, 5];
    let class = usize::from(value > 23) + usize::from(value > 0xFF) + usize::from(value > 0xFFFF);
    let len = LEN[class];
    // The most significant byte first, behind a byte for the head; a value below 24 falls into that byte itself.
    let tail = u64::from(value).swap_bytes() >> (64 - 8 * u32::from(len));
    let word = u64::from(HEAD[class]) | tail;
    bytes[at..][..size_of::<u64>()].copy_from_slice(&word.to_le_bytes());
    at + usize::from(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// [`hash_blocks`] into memory of the right length.
    fn hashes(parent: &[u8], tokens: &[i32], block_size: usize, salt: Option<&str>) -> Result<Vec<u8>> {
        let mut out = vec![0; tokens.len().checked_div(block_size).unwrap_or(0) * HASH_BYTES];
        hash_blocks(parent, tokens, block_size, salt, &mut out).map(|()| out)
    }

    fn written(write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::with_room_for(1000);
        write(&mut message);
        message.bytes[..message.len].to_vec()
    }

    /// The hash of each block, all with the same extra keys.
    fn chain(seed: &str, blocks: &[&[i32]], extra: ExtraKeys<'_>) -> Vec<String> {
        let mut parent = none_hash(seed);
        let mut hashes = Vec::new();
        for tokens in blocks {
            let mut message = Message::with_room_for(block_bytes(tokens.len(), extra));
            message.block(&parent, tokens, extra);
            parent = message.hash();
            hashes.push(hex(&parent));
        }
        hashes
    }

    #[test]
    fn numbers_take_the_fewest_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 24]),
            (255, &[0x18, 255]),
            (256, &[0x19, 1, 0]),
            (0xFFFF, &[0x19, 255, 255]),
            (0x1_0000, &[0x1A, 0, 1, 0, 0]),
            (0x7FFF_FFFF, &[0x1A, 0x7F, 255, 255, 255]),
        ] {
            assert_eq!(written(|message| message.len = write_number(&mut message.bytes, 0, value)), bytes);
        }
        assert_eq!(written(|message| message.text("ab")), [0x62, b'a', b'b']);
        assert_eq!(written(|message| message.head(BYTES, 32)), [0x58, 32]);
    }

    #[test]
    fn messages_of_any_length_are_padded_as_sha256_wants() {
        use sha2::{Digest, Sha256};
        for len in 0..300 {
            let seed: String = (0..len).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
            let message = written(|message| message.text(&seed));
            assert_eq!(none_hash(&seed), Sha256::digest(&message).as_slice(), "{len}");
        }
    }

    #[test]
    fn blocks_have_the_hashes_that_vllm_gives_them() {
        assert_eq!(hex(&none_hash("0")), "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e");
        let tokens = [55390, 226, 52680, 31094, 2, 152, 22591, 168];
        let expected = [
            "4d4c4108bfb74ed40fa019578bd69cbf086ae7485c62bf65077880e6054613b3",
            "642fb9dda174b14864ec31114f369cb2c3c7068706cf37e42a8ce6ea4b1d7a4f",
        ];
        assert_eq!(hex(&hashes(&none_hash("0"), &tokens, 4, None).unwrap()), expected.concat());
        let first = hashes(&none_hash("0"), &tokens[..7], 4, None).unwrap();
        assert_eq!(hex(&first), expected[0]);
        assert_eq!(hex(&hashes(&first, &tokens[4..], 4, None).unwrap()), expected[1]);
    }

    #[test]
    fn extra_keys_are_pairs_in_an_array() {
        let tokens: [i32; 48] = [
            631, 48841, 15271, 212, 75273, 71742, 128_811, 217, 6, 25939, 23373, 140_112, 144_922, 60, 22857,
            133_121, 59, 21905, 147, 19, 14795, 29957, 126, 8, 54237, 156, 61675, 92, 17703, 19, 4, 25,
            40352, 0, 36722, 3031, 71, 21, 52, 8, 4, 35865, 71061, 140_446, 112, 56, 2619, 33049,
        ];
        let blocks: Vec<&[i32]> = tokens.chunks(16).collect();
        let expected = [
            "5cd27e0d5463cec9846a1a75bea0e4d0edd35f42b32c99c18a840ed4801592a3",
            "fd9744fd609d3d48cf479822f79aff83afe663fa81746c321d03a8990bedef42",
            "9a165a9ebd33cb7d3be3796acd09af6d8b37fd1e617065586653d659efe823b1",
        ];
        assert_eq!(chain("0", &blocks, &[("lora", "my-adapter")]), expected);
    }

    #[test]
    fn a_salt_of_any_length_changes_the_first_block_and_all_behind_it() {
        let tokens = [1, 2, 3, 4];
        let parent = none_hash("0");
        let plain = hashes(&parent, &tokens, 2, None).unwrap();
        let empty = hashes(&parent, &tokens, 2, Some("")).unwrap();
        let long = hashes(&parent, &tokens, 2, Some(&"x".repeat(100_000))).unwrap();
        for (a, b) in [(&plain, &empty), (&plain, &long), (&empty, &long)] {
            assert_ne!(a[..HASH_BYTES], b[..HASH_BYTES]);
            assert_ne!(a[HASH_BYTES..], b[HASH_BYTES..]);
        }
        let behind = hashes(&long[..HASH_BYTES], &tokens[2..], 2, None).unwrap();
        assert_eq!(behind, long[HASH_BYTES..]);
    }

    #[test]
    fn a_block_may_be_of_any_size_and_only_full_ones_are_hashed() {
        let tokens: Vec<i32> = (0..3000).map(|i| i * 7919).collect();
        for block_size in [1, 3, 23, 24, 255, 256, 1000, 3000, 3001, usize::MAX] {
            let hashes = hashes(&none_hash(""), &tokens, block_size, None).unwrap();
            assert_eq!(hashes.len(), tokens.len() / block_size * HASH_BYTES);
        }
        assert!(hashes(&none_hash(""), &[], 16, Some("salt")).unwrap().is_empty());
    }

    #[test]
    fn blocks_of_their_own_have_the_hashes_of_their_chains() {
        let tokens: Vec<i32> = (0..48).collect();
        let chain = hashes(&none_hash("0"), &tokens, 16, None).unwrap();
        let parents = [&none_hash("0")[..], &chain[..2 * HASH_BYTES]].concat();
        let mut out = vec![0; chain.len()];
        hash_each(&parents, &tokens, 16, &mut out).unwrap();
        assert_eq!(out, chain);
        let failure = hash_each(&parents, &tokens[1..], 16, &mut out).unwrap_err();
        assert!(failure.message.contains("number of tokens is 47, allowed is 48"), "{failure}");
        let failure = hash_each(&parents, &tokens, 16, &mut out[1..]).unwrap_err();
        assert!(failure.message.contains("length of out is 95, allowed is 96"), "{failure}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (parent, tokens, block_size, with) in [
            (31, &[][..], 16, "length of parent is 31, allowed is 32"),
            (33, &[], 16, "length of parent is 33, allowed is 32"),
            (32, &[1], 0, "blockSize is 0, allowed is 1 or more"),
            (32, &[1, -1], 16, "tokens is -1, allowed is 0 or more"),
        ] {
            let failure = hashes(&vec![0; parent], tokens, block_size, None).unwrap_err();
            assert_eq!(failure.message, with);
        }
    }
}
