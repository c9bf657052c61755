//! N-API face of the core: convert, call, convert. No global state: the main thread and workers of one process each load
//! it.

pub mod block_hash;
pub mod device;
pub mod disk;
mod error;
pub mod grammar;
pub mod limits;
pub mod page_copies;
pub mod runner;
mod tokenizer;
pub mod transfers;
