//! The gate of a gated MLP: `silu(gate) * up` (Shazeer 2020, arXiv:2002.05202).

pub mod cpu;

/// `out = silu(x[:, :w]) * x[:, w:]` with `w = width / 2`; `x` is `[rows, width]`.
pub fn reference(x: &[f32], width: usize, out: &mut [f32]) {
    let half = width / 2;
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(half)) {
        let (gate, up) = x.split_at(half);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + (-gate).exp()) * up;
        }
    }
}
