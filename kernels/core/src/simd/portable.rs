//! The definition of [`Simd`], in plain Rust.

use half::{bf16, f16};

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

/// To bfloat16, nearest even; numbers below the least normal one to 0.
fn short(x: f32) -> u32 {
    let x = if x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
    u32::from(bf16::from_f32(x).to_bits())
}

/// The numbers of a pair.
fn numbers(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// Two i16 in a word.
fn shorts(pair: [i16; 2]) -> u32 {
    u32::from(pair[0] as u16) | (u32::from(pair[1] as u16) << 16)
}

impl Simd for Portable {
    const REGISTERS: usize = 8;
    type V = Lanes;
    type Mask = [bool; LANES];
    type Words = [u32; LANES];
    const QUAD_BIAS: i32 = 0;

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
    fn load_words(self, from: &[u32; LANES]) -> [u32; LANES] {
        *from
    }
    fn load_firsts(self, from: &[u32; LANES]) -> [u32; LANES] {
        from.map(|pair| pair & 0xffff)
    }
    fn splat_word(self, pair: u32) -> [u32; LANES] {
        [pair; LANES]
    }
    fn store_pairs(self, to: &mut [u32; LANES], low: Lanes, high: Lanes) {
        let numbers = low.as_chunks::<2>().0.iter().chain(high.as_chunks().0);
        for (to, &[first, second]) in to.iter_mut().zip(numbers) {
            *to = short(first) | (short(second) << 16);
        }
    }
    fn load_bytes(self, from: &[u16; LANES]) -> [u32; LANES] {
        from.map(|pair| shorts(pair.to_le_bytes().map(|byte| i16::from(byte as i8))))
    }
    fn store_shorts(self, to: &mut [u32; LANES], low: Lanes, high: Lanes) {
        let numbers = low.as_chunks::<2>().0.iter().chain(high.as_chunks().0);
        for (to, numbers) in to.iter_mut().zip(numbers) {
            *to = shorts(numbers.map(|x| x.round_ties_even() as i16));
        }
    }
    fn floats(self, v: [u32; LANES]) -> Lanes {
        v.map(|word| word as i32 as f32)
    }
    fn dot_quads(self, a: [u32; LANES], b: [u32; LANES], c: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| {
            let products = a[i].to_le_bytes().into_iter().zip(b[i].to_le_bytes());
            let sum: i32 = products.map(|(a, b)| (i32::from(a) - 128) * i32::from(b as i8)).sum();
            (c[i] as i32 + sum) as u32
        })
    }
    fn dot_shorts(self, a: [u32; LANES], b: [u32; LANES], c: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| {
            let (low, high) = (a[i] as i16, (a[i] >> 16) as i16);
            let sum =
                i32::from(low) * i32::from(b[i] as i16) + i32::from(high) * i32::from((b[i] >> 16) as i16);
            (c[i] as i32 + sum) as u32
        })
    }
    fn dot_pairs(self, a: [u32; LANES], b: [u32; LANES], c: Lanes) -> Lanes {
        std::array::from_fn(|i| {
            let (a, b) = (numbers(a[i]), numbers(b[i]));
            a[0].mul_add(b[0], a[1].mul_add(b[1], c[i]))
        })
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
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2] {
        let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum();
        [sum(&block[..16]), sum(&block[16..])]
    }
}
