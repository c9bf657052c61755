//! The machine's limits: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]

use crate::error::to_js;
use kvengine_core::limits::{Factors, Limits};
use kvengine_core::simd::Isa;
use napi_derive::napi;

/// Threads and memory to measure with. The calling thread is one of the threads, and a call returns when it is done.
#[napi]
pub struct MachineLimits {
    core: Limits,
}

#[napi]
impl MachineLimits {
    /// `footprint`: bytes of memory that reads go through.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi(constructor)]
    pub fn new(threads: u32, footprint: f64) -> napi::Result<Self> {
        Limits::new(threads as usize, footprint as usize).map(|core| Self { core }).map_err(to_js)
    }

    /// Bytes that all threads read a second; measured for `millis`.
    #[napi]
    pub fn read_bandwidth(&mut self, millis: u32) -> f64 {
        self.core.read_bandwidth(millis)
    }

    /// Multiply-accumulates of all threads a second; measured for `millis`. `null` where the CPU lacks the instruction set
    /// of this name, or that has no instruction for these factors.
    #[napi]
    pub fn multiply_rate(&mut self, isa: String, factors: Factors, millis: u32) -> Option<f64> {
        Isa::detect(&isa).ok().and_then(|isa| self.core.multiply_rate(isa, factors, millis))
    }
}
