//! Names of KV blocks: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]
#![expect(
    unsafe_code,
    reason = "hashes are written to the caller's array: one of our own costs more than a tenth more"
)]

use crate::error::to_js;
use kvengine_core::block_hash;
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;

/// Writes 32 bytes for each full block of `tokens` to `out`; `parent` is the hash of the block before, or `noneHash`. The
/// salt goes into the first block's hash.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn hash_blocks(
    parent: &[u8],
    tokens: &[i32],
    block_size: u32,
    mut out: Uint8Array,
    first_block_salt: Option<String>,
) -> napi::Result<()> {
    // SAFETY: JavaScript runs on this thread and waits for this call, so nobody else reads or writes the array.
    let out = unsafe { out.as_mut() };
    block_hash::hash_blocks(parent, tokens, block_size as usize, first_block_salt.as_deref(), out)
        .map_err(to_js)
}

/// Writes 32 bytes for each block of `tokens` to `out`, each behind a block of its own: `parents` holds their hashes one
/// after the other.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn hash_each(parents: &[u8], tokens: &[i32], block_size: u32, mut out: Uint8Array) -> napi::Result<()> {
    // SAFETY: as in `hash_blocks`.
    let out = unsafe { out.as_mut() };
    block_hash::hash_each(parents, tokens, block_size as usize, out).map_err(to_js)
}

/// What stands for the parent of a first block.
#[napi]
pub fn none_hash(seed: String) -> Uint8Array {
    block_hash::none_hash(&seed).to_vec().into()
}
