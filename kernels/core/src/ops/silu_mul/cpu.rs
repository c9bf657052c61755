//! The gate of a gated MLP, one row.

use crate::simd::{Simd, WIDE, exp2};

/// `out = silu(x[..w]) * x[w..]` with `w = out.len()`.
#[inline(always)]
pub fn row<S: Simd<WIDE>>(s: S, x: &[f32], out: &mut [f32]) {
    let (gate, up) = x.split_at(out.len());
    let (gates, gate_rest) = gate.as_chunks::<WIDE>();
    let (ups, up_rest) = up.as_chunks::<WIDE>();
    let (outs, out_rest) = out.as_chunks_mut::<WIDE>();
    for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
        lanes(s, gate, up, out);
    }
    if !out_rest.is_empty() {
        let (mut gate, mut up, mut out) = ([0.0; WIDE], [0.0; WIDE], [0.0; WIDE]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        lanes(s, &gate, &up, &mut out);
        out_rest.copy_from_slice(&out[..out_rest.len()]);
    }
}

/// `gate = silu(gate) * up`, as [`row`] has it.
#[inline(always)]
pub fn gate<S: Simd<WIDE>, const N: usize>(s: S, gate: &mut [f32; N], up: &[f32; N]) {
    const { assert!(N.is_multiple_of(WIDE)) };
    for (gate, up) in gate.as_chunks_mut::<WIDE>().0.iter_mut().zip(up.as_chunks::<WIDE>().0) {
        lanes(s, &{ *gate }, up, gate);
    }
}

#[inline(always)]
fn lanes<S: Simd<WIDE>>(s: S, gate: &[f32; WIDE], up: &[f32; WIDE], out: &mut [f32; WIDE]) {
    let (gate, up) = (s.load(gate), s.load(up));
    let e = exp2(s, s.mul(gate, s.splat(-std::f32::consts::LOG2_E)));
    let silu = s.div(gate, s.add(s.splat(1.0), e));
    s.store(out, s.mul(silu, up));
}
