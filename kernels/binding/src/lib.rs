//! N-API face of the core: convert, call, convert. No global state: the main thread and workers of one process each load
//! it.

mod device;
mod error;
mod runner;
mod tokenizer;
