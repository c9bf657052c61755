//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

pub mod cpu;

use crate::op::RopeStyle;

/// Where and how to rotate; fields as in [`crate::op::Op::Rope`].
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Heads rotated, from the first column on.
    pub num_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Columns of a head that are rotated, even.
    pub dims: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Which elements pair up.
    pub style: RopeStyle,
    /// Divisors of the frequencies, `[dims / 2]`.
    pub factors: Option<&'a [f32]>,
}

/// How fast a pair turns.
#[derive(Clone, Copy, Debug)]
pub struct Frequency {
    /// `theta^(-2i/dims)` for pair i.
    times: f64,
    factor: f64,
}

impl Frequency {
    /// Sine and cosine of the angle at a position: `position * theta^(-2i/dims) / factor_i`, in f64.
    pub fn sin_cos(self, position: u32) -> (f32, f32) {
        let (sin, cos) = (f64::from(position) * self.times / self.factor).sin_cos();
        (sin as f32, cos as f32)
    }
}

/// Those of all pairs.
pub fn frequencies(rope: &Rope<'_>) -> Vec<Frequency> {
    let frequency = |i: usize| Frequency {
        times: rope.theta.powf(-2.0 * i as f64 / rope.dims as f64),
        factor: rope.factors.map_or(1.0, |factors| f64::from(factors[i])),
    };
    (0..rope.dims / 2).map(frequency).collect()
}

/// Rotates the rows of `x`, `[positions.len(), width]`.
pub fn reference(x: &[f32], positions: &[u32], width: usize, rope: &Rope<'_>, out: &mut [f32]) {
    out.copy_from_slice(x);
    let frequencies = frequencies(rope);
    for (&position, row) in positions.iter().zip(out.chunks_exact_mut(width)) {
        let angles: Vec<(f32, f32)> = frequencies.iter().map(|one| one.sin_cos(position)).collect();
        for head in row.chunks_exact_mut(rope.head_dim).take(rope.num_heads) {
            for (i, &(sin, cos)) in angles.iter().enumerate() {
                let (a, b) = match rope.style {
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                    RopeStyle::Halves => (i, i + rope.dims / 2),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }
}
