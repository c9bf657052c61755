//! Names of KV blocks: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]

use crate::error::to_js;
use kvengine_core::block_hash;
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;

/// 32 bytes for each full block of `tokens`, in memory of their own; `parent` is the hash of the block before, or
/// `noneHash`. The salt goes into the first block's hash.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn hash_blocks(
    parent: &[u8],
    tokens: &[i32],
    block_size: u32,
    first_block_salt: Option<String>,
) -> napi::Result<Uint8Array> {
    block_hash::hash_blocks(parent, tokens, block_size as usize, first_block_salt.as_deref())
        .map(Into::into)
        .map_err(to_js)
}

/// What stands for the parent of a first block.
#[napi]
pub fn none_hash(seed: String) -> Uint8Array {
    block_hash::none_hash(&seed).to_vec().into()
}
