//! Multiply-accumulates in plain Rust, as the portable kernels have them: 32 a round.

use std::hint::black_box;

pub(super) fn int8(rounds: u32) -> u64 {
    let (weights, numbers) = ([1_u8; 32], [1_i8; 32]);
    let mut sums = [0_i32; 32];
    for _ in 0..rounds {
        let (weights, numbers) = black_box((&weights, &numbers));
        for ((sum, w), x) in sums.iter_mut().zip(weights).zip(numbers) {
            *sum += i32::from(*w) * i32::from(*x);
        }
    }
    sums.iter().map(|&sum| sum as u64).sum()
}

pub(super) fn fp32(rounds: u32) -> u64 {
    let (weights, numbers) = ([1.0_f32; 32], [1.0_f32; 32]);
    let mut sums = [0.0_f32; 32];
    for _ in 0..rounds {
        let (weights, numbers) = black_box((&weights, &numbers));
        for ((sum, w), x) in sums.iter_mut().zip(weights).zip(numbers) {
            *sum = w.mul_add(*x, *sum);
        }
    }
    sums.iter().map(|&sum| sum as u64).sum()
}
