//! The gate of a gated MLP, one row.

use crate::simd::{LANES, Simd, exp2};

/// `out = silu(x[..w]) * x[w..]` with `w = out.len()`.
#[inline(always)]
pub fn row<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
    let (gate, up) = x.split_at(out.len());
    let (gates, gate_rest) = gate.as_chunks::<LANES>();
    let (ups, up_rest) = up.as_chunks::<LANES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
        lanes(s, gate, up, out);
    }
    if !out_rest.is_empty() {
        let (mut gate, mut up, mut out) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        lanes(s, &gate, &up, &mut out);
        out_rest.copy_from_slice(&out[..out_rest.len()]);
    }
}

#[inline(always)]
fn lanes<S: Simd>(s: S, gate: &[f32; LANES], up: &[f32; LANES], out: &mut [f32; LANES]) {
    let (gate, up) = (s.load(gate), s.load(up));
    let e = exp2(s, s.mul(gate, s.splat(-std::f32::consts::LOG2_E)));
    let silu = s.div(gate, s.add(s.splat(1.0), e));
    s.store(out, s.mul(silu, up));
}
