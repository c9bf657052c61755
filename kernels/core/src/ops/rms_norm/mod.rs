//! Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467), alone and after a residual addition.

pub mod cpu;

/// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row; a row is `weight.len()` wide. The mean is taken in f64.
pub fn reference(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let sum: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = (1.0 / (sum / width as f64 + eps).sqrt()) as f32;
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}
