//! The native half of kvengine: everything that computes or owns memory. It knows no JavaScript and no model.
//!
//! A *tape* ([`op::Op`]s recorded by TypeScript) becomes a [`program::Program`]: checked, planned, its weights prepared
//! by a [`backend::Backend`]. A [`step::Step`] says which tokens of which sequences to compute and in which KV blocks;
//! one owned thread ([`runner::Runner`]) runs the tape once for each step, in order.
#![deny(unsafe_code)]

pub mod arena;
pub mod backend;
pub mod block_hash;
pub mod cpu_features;
pub mod dequant;
pub mod disk;
pub mod dtype;
pub mod error;
mod give_way;
pub mod grammar;
pub mod limits;
pub mod mapping;
pub mod memory;
pub mod op;
pub mod ops;
pub mod packing;
pub mod pages;
pub mod picks;
pub mod plan;
pub mod pool;
pub mod profile;
pub mod program;
pub mod runner;
pub mod seats;
pub mod shape;
pub mod simd;
pub mod step;
mod step_gate;
pub mod tokenizer;
pub mod transfer;
pub mod weights;

#[cfg(test)]
mod testing;
