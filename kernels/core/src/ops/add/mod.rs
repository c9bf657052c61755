//! Residual addition.

/// `out = x + y`, element by element.
pub fn reference(x: &[f32], y: &[f32], out: &mut [f32]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = x + y;
    }
}
