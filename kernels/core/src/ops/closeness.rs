//! How far a backend may be from the reference.

use crate::dtype::DType;
use crate::op::Op;

/// The rule: a value may differ by this share of itself plus the same share of the root mean square of all values.
/// Products of F32 weights differ by the order of their sums; of 16-bit weights also by activations in bf16 (8 bits);
/// of quantised weights by activations in int8 per block of 32 (half a step of max / 127 each). KV may be kept in f16.
pub(crate) fn tolerance(op: &Op, dtype: Option<DType>) -> f32 {
    match (op, dtype) {
        (Op::Linear { .. }, Some(DType::F32)) => 2e-5,
        (Op::Linear { .. }, Some(DType::F16 | DType::BF16)) => 1e-2,
        (Op::Linear { .. }, _) => 4e-2,
        (Op::Attention { .. }, _) => 4e-3,
        _ => 1e-5,
    }
}

/// Holds `found` to the rule of [`tolerance`].
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let squares: f64 = expected.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = (squares / expected.len().max(1) as f64).sqrt() as f32;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance * (scale + expected.abs()),
            "{what}: element {i} is {found}, the reference {expected} (scale {scale}, tolerance {tolerance})"
        );
    }
}
