//! From rows of tokens to rows of sampled positions.

/// `out[i] = x[samples[i]]`; rows are `width` wide.
pub fn reference(x: &[f32], samples: &[u32], width: usize, out: &mut [f32]) {
    for (&sample, out) in samples.iter().zip(out.chunks_exact_mut(width)) {
        let at = sample as usize * width;
        out.copy_from_slice(&x[at..at + width]);
    }
}
