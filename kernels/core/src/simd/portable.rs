//! The definition of [`Simd`], in plain Rust.

use half::f16;

use super::{LANES, Simd};

/// No instruction set at all.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

type Lanes = [f32; LANES];

fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i]))
}

fn tree(v: Lanes, f: impl Fn(f32, f32) -> f32) -> f32 {
    let quarter: [f32; 4] = std::array::from_fn(|i| f(v[i], v[i + 4]));
    f(f(quarter[0], quarter[2]), f(quarter[1], quarter[3]))
}

fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Simd for Portable {
    const REGISTERS: usize = 16;
    type V = Lanes;
    type Mask = [bool; LANES];

    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    fn splat(self, x: f32) -> Lanes {
        [x; LANES]
    }
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }
    fn store(self, to: &mut Lanes, v: Lanes) {
        *to = v;
    }
    fn prefetch<T>(self, _at: &T) {}
    fn load_half(self, from: &[u16; LANES]) -> Lanes {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }
    fn store_half(self, to: &mut [u16; LANES], v: Lanes) {
        *to = v.map(|x| f16::from_f32(x).to_bits());
    }
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, larger)
    }
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    fn round(self, v: Lanes) -> Lanes {
        v.map(f32::round_ties_even)
    }
    fn power_of_two(self, n: Lanes) -> Lanes {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32))
    }
    fn lanes(self, from: i32, to: i32) -> [bool; LANES] {
        std::array::from_fn(|i| (from..to).contains(&(i as i32)))
    }
    fn select(self, mask: [bool; LANES], a: Lanes, b: Lanes) -> Lanes {
        std::array::from_fn(|i| if mask[i] { a[i] } else { b[i] })
    }
    fn sum(self, v: Lanes) -> f32 {
        tree(v, |a, b| a + b)
    }
    fn largest(self, v: Lanes) -> f32 {
        tree(v, larger)
    }
    fn magnitude(self, block: &[f32; 32]) -> u32 {
        block.iter().fold(0, |most, x| most.max(x.abs().to_bits()))
    }
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32] {
        block.map(|x| (x * by).round_ties_even() as i8)
    }
    fn sum_block(self, block: &[i8; 32]) -> i32 {
        block.iter().map(|&q| i32::from(q)).sum()
    }
}
