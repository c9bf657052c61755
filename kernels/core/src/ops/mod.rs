//! One folder an op: `mod.rs` has the contract and the plain fp32 reference, the definition that every backend is tested
//! against; `cpu.rs` beside it has the fast version. A reference function takes whole matrices as slices, row after row.

pub mod add;
pub mod attention;
pub mod embed;
pub mod gather_samples;
pub mod linear;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod silu_mul;
pub mod store_kv;

#[cfg(test)]
pub(crate) mod closeness;
#[cfg(test)]
mod shapes;
#[cfg(test)]
pub(crate) mod suite;
