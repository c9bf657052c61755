//! The same bits on every instruction set of this machine.

use super::{Isa, Simd, WIDE, exp2, exp2_short};

use crate::testing::Random;

fn isas() -> Vec<Isa> {
    ["portable", "avx2", "avx512"].iter().filter_map(|name| Isa::detect(name).ok()).collect()
}

/// Normal numbers of all sizes, zeros, infinities, NaN, and numbers that are less than normal.
fn numbers(random: &mut Random, count: usize) -> Vec<f32> {
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-44, f32::MAX, f32::MIN_POSITIVE];
    (0..count)
        .map(|i| match i % 7 {
            0 => special[i / 7 % special.len()],
            1..=3 => random.normal(),
            _ => random.normal() * f32::powi(2.0, (random.normal() * 20.0) as i32),
        })
        .collect()
}

#[test]
fn pairs_are_rounded_alike() {
    let mut random = Random(31);
    let given = numbers(&mut random, 4096 * 2 * WIDE);
    let round = |isa: Isa| -> Vec<u32> {
        let mut all = Vec::new();
        for numbers in given.as_chunks::<{ 2 * WIDE }>().0 {
            let (mut words, numbers) = ([0; WIDE], numbers.as_chunks().0);
            with_pairs_simd!(isa, s => s.store_pairs(&mut words, s.load(&numbers[0]), s.load(&numbers[1])));
            all.extend(words);
        }
        all
    };
    let wanted = round(Isa::Portable);
    for (pair, numbers) in wanted.iter().zip(given.as_chunks::<2>().0) {
        for (bits, x) in [pair << 16, pair & 0xffff_0000].into_iter().zip(numbers) {
            let short = f32::from_bits(bits);
            let off = (f64::from(short) - f64::from(*x)).abs();
            let least = f64::from(f32::MIN_POSITIVE);
            assert!(short.is_nan() == x.is_nan(), "{x} became {short}");
            assert!(
                !x.is_finite() || x.abs() > 3e38 || off <= f64::from(x.abs()) / 256.0 + least,
                "{x} became {short}"
            );
        }
    }
    for isa in isas() {
        assert_eq!(round(isa), wanted, "{}", isa.name());
    }
}

/// Sums as attention has them: numbers of all signs, of sizes that differ by up to 2^40.
#[test]
fn dots_of_pairs_have_the_same_bits() {
    let mut random = Random(32);
    let count = 20_000 * WIDE;
    let word = |random: &mut Random| -> u32 {
        let short = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
        let mut number = || short(random.normal() * f32::powi(2.0, (random.normal() * 6.0) as i32));
        number() | (number() << 16)
    };
    let a: Vec<u32> = (0..count).map(|_| word(&mut random)).collect();
    let b: Vec<u32> = (0..count).map(|_| word(&mut random)).collect();
    let c: Vec<f32> =
        (0..count).map(|_| random.normal() * f32::powi(2.0, (random.normal() * 8.0) as i32)).collect();
    let dot = |isa: Isa| -> Vec<u32> {
        let mut all = Vec::new();
        for i in 0..count / WIDE {
            let at = |words: &[u32]| -> [u32; WIDE] { *words[i * WIDE..].first_chunk().expect("inside") };
            let mut sums: [f32; WIDE] = *c[i * WIDE..].first_chunk().expect("inside");
            let (a, b) = (at(&a), at(&b));
            with_pairs_simd!(isa, s => {
                let sum = s.dot_pairs(s.load_words(&a), s.load_words(&b), s.load(&sums));
                s.store(&mut sums, sum);
            });
            all.extend(sums.map(f32::to_bits));
        }
        all
    };
    let wanted = dot(Isa::Portable);
    for isa in isas() {
        let got = dot(isa);
        let off = got.iter().zip(&wanted).filter(|(got, wanted)| got != wanted).count();
        assert_eq!(off, 0, "{} of {count} differ on {}", off, isa.name());
    }
}

#[test]
fn the_short_power_of_two_is_close_and_alike() {
    for isa in isas() {
        let mut most = 0.0_f64;
        for i in 0..4000 {
            let x: [f32; WIDE] = std::array::from_fn(|lane| -((i * WIDE + lane) as f32) / 512.0);
            let (mut short, mut exact) = ([0.0; WIDE], [0.0; WIDE]);
            with_wide_simd!(isa, s => {
                s.store(&mut short, exp2_short(s, s.load(&x)));
                s.store(&mut exact, exp2(s, s.load(&x)));
            });
            for (short, exact) in short.into_iter().zip(exact) {
                most = most.max((f64::from(short) / f64::from(exact) - 1.0).abs());
            }
        }
        assert!(most < 1.1e-4, "{most} on {}", isa.name());
    }
}

#[test]
fn shorts_are_rounded_and_numbers_scaled_alike() {
    let mut random = Random(33);
    let given: Vec<f32> = (0..4096 * 2 * WIDE)
        .map(|i| match i % 5 {
            0 => (random.normal() * 8000.0).round().clamp(-32766.0, 32766.0) + 0.5,
            1 => [32767.0, -32767.0, 0.0, -0.0, 0.5, -0.5, 1.5, 1e-30][i / 5 % 8],
            _ => (random.normal() * 9000.0).clamp(-32767.0, 32767.0),
        })
        .collect();
    let round = |isa: Isa| -> Vec<u32> {
        let mut all = Vec::new();
        for numbers in given.as_chunks::<{ 2 * WIDE }>().0 {
            let (mut words, mut scaled) = ([0; WIDE], [0.0; WIDE]);
            let numbers = numbers.as_chunks().0;
            with_wide_simd!(isa, s => {
                let (low, high) = (s.load(&numbers[0]), s.load(&numbers[1]));
                s.store_shorts(&mut words, low, high);
                let power = s.round(s.mul(high, s.splat(126.0 / 32767.0)));
                s.store(&mut scaled, s.scale(low, power));
            });
            all.extend(words);
            all.extend(scaled.map(f32::to_bits));
        }
        all
    };
    let wanted = round(Isa::Portable);
    let first = wanted[..WIDE].iter().flat_map(|word| [*word as i16, (word >> 16) as i16]);
    for (short, number) in first.zip(&given) {
        assert_eq!(f32::from(short), number.round_ties_even(), "{number}");
    }
    for isa in isas() {
        assert_eq!(round(isa), wanted, "{}", isa.name());
    }
}
