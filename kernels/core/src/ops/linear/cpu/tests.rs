use std::collections::HashSet;

use half::{bf16, f16};

use super::errand::Errand;
use super::format::{Format, PACKINGS};
use super::kernel::LINE;
use super::{Ahead, Linear, Scratch, isa};
use crate::backend::Tensor;
use crate::backend::cpu::memory::Memory;
use crate::dequant::dequantize;
use crate::dtype::DType;
use crate::ops::silu_mul;
use crate::pool::Pool;
use crate::simd::{Isa, Pair, Portable};
use crate::testing::Random;

/// Any bits for the numbers; scales and minima are numbers of moderate size, of both signs.
fn bytes(random: &mut Random, dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..rows * dtype.row_bytes(cols)).map(|_| (random.next() >> 33) as u8).collect();
    for block in bytes.chunks_mut(dtype.block_bytes()) {
        let half = f16::from_f32(random.normal() * 0.1).to_le_bytes();
        let other = f16::from_f32(random.normal() * 0.1).to_le_bytes();
        match dtype {
            DType::F32 => block.copy_from_slice(&random.normal().to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&bf16::from_f32(random.normal()).to_le_bytes()),
            DType::Q6_K => block[208..].copy_from_slice(&half),
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => {
                block[..2].copy_from_slice(&half);
                block[2..4].copy_from_slice(&other);
            }
            DType::F16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => block[..2].copy_from_slice(&half),
        }
    }
    bytes
}

fn isas() -> Vec<Isa> {
    Isa::all().collect()
}

struct Case {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl Case {
    fn new(random: &mut Random, dtype: DType, rows: usize, cols: usize) -> Self {
        Self { dtype, rows, cols, bytes: bytes(random, dtype, rows, cols) }
    }

    fn tensor(&self) -> Tensor<'_> {
        Tensor { name: "w", dtype: self.dtype, rows: self.rows, cols: self.cols, bytes: &self.bytes }
    }

    fn dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.rows * self.cols];
        dequantize(self.dtype, &self.bytes, &mut dense);
        dense
    }
}

fn linear(isa: Isa, threads: usize, cases: &[Case], biases: &[Vec<f32>], x: &[f32]) -> Vec<f32> {
    let mut pool = Pool::new(threads).expect("threads");
    let mut memory = Memory::default();
    let tensors: Vec<Tensor<'_>> = cases.iter().map(Case::tensor).collect();
    let linear = Linear::pack(isa, &mut pool, &mut memory, &tensors, biases).expect("memory");
    let width: usize = cases.iter().map(|c| c.rows).sum();
    let rows = x.len() / cases[0].cols;
    let mut out = vec![f32::MAX; rows * width];
    let mut scratch = Scratch::new(isa);
    linear.take(&mut pool, &mut scratch, x);
    linear.run(&mut pool, &scratch, rows, &mut out);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Largest difference to the product in f64, as a share of the sum of magnitudes plus what rounding `x` may cost.
fn worst(case: &Case, x: &[f32], out: &[f32], rounding: f64) -> f64 {
    let dense = case.dense();
    let mut worst = 0.0_f64;
    for (x, out) in x.chunks_exact(case.cols).zip(out.chunks_exact(case.rows)) {
        for (w, out) in dense.chunks_exact(case.cols).zip(out) {
            let (mut exact, mut bound) = (0.0, 1e-30);
            for (w, x) in w.chunks(32).zip(x.chunks(32)) {
                let most = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                for (w, x) in w.iter().zip(x) {
                    let (w, x) = (f64::from(*w), f64::from(*x));
                    exact += w * x;
                    bound += w.abs() * (x.abs() * 1e-6 + rounding * f64::from(most));
                }
            }
            worst = worst.max((exact - f64::from(*out)).abs() / bound);
        }
    }
    worst
}

#[test]
fn input_that_needs_no_rounding_gives_the_exact_product() {
    let mut random = Random(1);
    for dtype in DType::ALL {
        for (rows, cols) in [(50, 256), (16, 512), (3, 768)] {
            let case = Case::new(&mut random, dtype, rows, cols);
            // Multiples of 1/127 of the block's largest.
            let x: Vec<f32> = (0..5 * cols)
                .map(|i| if i % 32 == 0 { 127.0 } else { (random.next() % 255) as f32 - 127.0 })
                .collect();
            for isa in isas() {
                let out = linear(isa, 1, std::slice::from_ref(&case), &[], &x);
                let worst = worst(&case, &x, &out, 0.0);
                assert!(worst < 1.0, "{dtype:?} {rows}x{cols} {}: {worst}", isa.name());
            }
        }
    }
}

#[test]
fn rounding_the_input_to_eight_bits_costs_at_most_half_a_step() {
    let mut random = Random(2);
    for dtype in DType::ALL {
        let case = Case::new(&mut random, dtype, 33, 256);
        let x = random.normals(7 * 256);
        for isa in isas() {
            let out = linear(isa, 2, std::slice::from_ref(&case), &[], &x);
            let worst = worst(&case, &x, &out, 0.5001 / 127.0);
            assert!(worst < 1.0, "{dtype:?} {}: {worst}", isa.name());
        }
    }
}

#[test]
fn bits_depend_neither_on_the_instruction_set_nor_on_threads_nor_on_other_rows() {
    let mut random = Random(3);
    for dtype in DType::ALL {
        let cols = 32.max(dtype.block_len()) * 3;
        let case = Case::new(&mut random, dtype, 70, cols);
        let x = random.normals(17 * cols);
        let cases = std::slice::from_ref(&case);
        let alone: Vec<f32> =
            x.chunks_exact(cols).flat_map(|x| linear(Isa::Portable, 1, cases, &[], x)).collect();
        for isa in isas() {
            for rows in 1..=17 {
                let out = linear(isa, 1 + rows % 3, cases, &[], &x[..rows * cols]);
                assert_eq!(bits(&out), bits(&alone[..rows * 70]), "{dtype:?} {} {rows} rows", isa.name());
            }
        }
    }
}

#[test]
fn several_matrices_and_biases_stand_side_by_side() {
    let mut random = Random(4);
    let cases = [
        Case::new(&mut random, DType::Q4_K, 40, 256),
        Case::new(&mut random, DType::Q6_K, 7, 256),
        Case::new(&mut random, DType::F16, 21, 256),
    ];
    let biases: Vec<Vec<f32>> = cases.iter().map(|c| random.normals(c.rows)).collect();
    let x = random.normals(6 * 256);
    for isa in isas() {
        let out = linear(isa, 3, &cases, &biases, &x);
        let mut column = 0;
        for (case, bias) in cases.iter().zip(&biases) {
            let one = linear(isa, 1, std::slice::from_ref(case), &[], &x);
            for (row, one) in one.chunks_exact(case.rows).enumerate() {
                let expected: Vec<f32> = one.iter().zip(bias).map(|(a, b)| a + b).collect();
                assert_eq!(bits(&out[row * 68 + column..][..case.rows]), bits(&expected), "{}", isa.name());
            }
            column += case.rows;
        }
    }
}

#[test]
fn a_row_that_is_not_a_number_spoils_no_other_row() {
    let mut random = Random(5);
    for dtype in [DType::Q4_0, DType::Q4_1, DType::Q8_0, DType::Q6_K, DType::F32] {
        let case = Case::new(&mut random, dtype, 20, 256);
        let cases = std::slice::from_ref(&case);
        let clean = random.normals(6 * 256);
        let mut x = clean.clone();
        x[256 + 40] = f32::NAN;
        x[2 * 256] = f32::INFINITY;
        x[3 * 256..4 * 256].fill(1e-40);
        x[4 * 256..5 * 256].fill(f32::MAX);
        for isa in isas() {
            let expected = linear(isa, 1, cases, &[], &clean);
            let out = linear(isa, 2, cases, &[], &x);
            assert_eq!(bits(&out[..20]), bits(&expected[..20]), "{dtype:?}");
            assert_eq!(bits(&out[100..]), bits(&expected[100..]), "{dtype:?}");
            assert!(out[20..40].iter().all(|v| v.is_nan()), "{dtype:?} {out:?}");
            assert!(out[40..60].iter().all(|v| !v.is_finite()), "{dtype:?}");
            assert!(out[60..80].iter().all(|v| v.abs() < 1e-30), "{dtype:?}");
        }
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let extremes = DType::ALL.into_iter().flat_map(|dtype| [0, 0xff, 0x7f, 0x80].map(|fill| (dtype, fill)));
    for (dtype, fill) in extremes.filter(|(dtype, _)| dtype.block_len() > 1) {
        let mut bytes = vec![fill; 16 * dtype.row_bytes(256)];
        for block in bytes.chunks_mut(dtype.block_bytes()) {
            let one = f16::from_f32(1.0).to_le_bytes();
            match dtype {
                DType::Q6_K => {
                    block[192..208].fill(if fill < 0x80 { 0x7f } else { 0x80 });
                    block[208..].copy_from_slice(&one);
                }
                DType::Q4_K | DType::Q5_K => block[..16].fill(0xff),
                DType::Q4_1 | DType::Q5_1 => block[2..4].fill(0),
                _ => {}
            }
            if dtype != DType::Q6_K {
                block[..2].copy_from_slice(&one);
            }
            if matches!(dtype, DType::Q4_K | DType::Q5_K) {
                block[2..4].fill(0);
            }
        }
        let case = Case { dtype, rows: 16, cols: 256, bytes };
        for sign in [1.0, -1.0] {
            let x = vec![127.0 * sign; 256];
            for isa in isas() {
                let out = linear(isa, 1, std::slice::from_ref(&case), &[], &x);
                assert!(worst(&case, &x, &out, 0.0) < 1.0, "{dtype:?} {fill} {}", isa.name());
            }
        }
    }
}

#[test]
fn a_gate_leaves_to_the_next_linear_what_the_ops_alone_would() {
    let mut random = Random(6);
    let (cols, inner) = (256, 512);
    for (gate, up, down) in [
        (DType::Q4_1, DType::Q4_1, DType::Q4_1),
        (DType::Q4_K, DType::Q6_K, DType::Q8_0),
        (DType::Q8_0, DType::F16, DType::F32),
    ] {
        let wide = [gate, up].map(|dtype| Case::new(&mut random, dtype, inner, cols));
        let narrow = Case::new(&mut random, down, 70, inner);
        let mut x = random.normals(17 * cols);
        x[3 * cols + 5] = f32::NAN;
        let mut products = linear(Isa::Portable, 1, &wide, &[], &x);
        for row in products.chunks_exact_mut(2 * inner) {
            let mut gated = vec![0.0; inner];
            silu_mul::cpu::row(Pair(Portable), row, &mut gated);
            row[..inner].copy_from_slice(&gated);
        }
        let gated: Vec<f32> =
            products.chunks_exact(2 * inner).flat_map(|row| row[..inner].to_vec()).collect();
        let expected = linear(Isa::Portable, 1, std::slice::from_ref(&narrow), &[], &gated);
        for isa in isas() {
            for rows in [1, 2, 5, 6, 7, 13, 17] {
                let mut pool = Pool::new(1 + rows % 3).expect("threads");
                let (mut memory, mut scratch) = (Memory::default(), Scratch::new(isa));
                let mut pack = |cases: &[Case]| {
                    let tensors: Vec<Tensor<'_>> = cases.iter().map(Case::tensor).collect();
                    Linear::pack(isa, &mut pool, &mut memory, &tensors, &[]).expect("memory")
                };
                let (wide, narrow) = (pack(&wide), pack(std::slice::from_ref(&narrow)));
                assert!(wide.is_gate_of(&narrow) && !narrow.is_gate_of(&wide));
                let mut out = vec![f32::MAX; rows * 70];
                wide.take(&mut pool, &mut scratch, &x[..rows * cols]);
                wide.gate(&narrow, &mut pool, &mut scratch, rows);
                narrow.run_gated(&mut pool, &scratch, rows, &mut out);
                let what = format!("{gate:?} {up:?} {down:?} {} {rows} rows", isa.name());
                assert_eq!(bits(&out), bits(&expected[..rows * 70]), "{what}");
            }
        }
    }
}

#[test]
fn panels_hold_no_more_bytes_than_the_file_but_for_padding() {
    for (dtype, most) in DType::ALL.map(|dtype| match dtype {
        // Five bits are kept as six.
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => (dtype, 1.21),
        _ => (dtype, 1.03),
    }) {
        for isa in isas() {
            let (rows, cols) = (2 * super::lanes(isa), 512);
            let share =
                Format::of(dtype).panel_bytes(rows, cols) as f64 / (rows * dtype.row_bytes(cols)) as f64;
            assert!((1.0..most).contains(&share), "{dtype:?} {}: {share}", isa.name());
        }
    }
}

#[test]
fn every_quantised_type_has_a_packing_of_its_own() {
    for dtype in DType::ALL {
        match Format::of(dtype) {
            Format::Quantised(at) => assert_eq!(PACKINGS[at].dtype, dtype),
            Format::F32 | Format::F16 | Format::BF16 => assert_eq!(dtype.block_len(), 1),
        }
    }
}

/// The lines that so many groups ask for with `blocks` blocks each, and how many times in all.
fn asked(ahead: &Ahead<'_>, turns: usize, blocks: usize) -> (HashSet<usize>, usize) {
    let turns = (0..turns).map(|turn| ahead.of(turn));
    let lines: Vec<usize> = turns
        .flat_map(|(from, lines)| (0..lines * blocks).map(move |line| from.addr() / LINE + line))
        .collect();
    (lines.iter().copied().collect(), lines.len())
}

#[test]
fn one_row_asks_for_as_much_as_its_panel_has_from_within_two_pages_on_or_for_nothing() {
    let memory = vec![0_u8; 64 * 1024];
    let (panel, next) = memory.split_at(memory.len() / 2);
    let errand = Errand::default();
    for isa in isas() {
        for dtype in DType::ALL {
            let format = Format::of(dtype);
            let (lines, _) = asked(&Ahead::new(isa, panel, next, format, 18, [1, 1], &errand), 1, 18);
            let name = format!("{dtype:?} {}", isa.name());
            if isa::near(isa, format).is_none() {
                assert!(lines.is_empty(), "{name}");
                continue;
            }
            assert!(lines.len() >= panel.len() / LINE, "{name}");
            let first = lines.iter().min().expect("lines") * LINE;
            let from = panel.as_ptr().addr();
            assert!((from + LINE..from + 8192).contains(&first), "{name}");
        }
    }
}

#[test]
fn groups_ask_for_the_whole_next_panel_and_those_that_are_left_for_parts_of_an_errand() {
    const FAR: usize = 1 << 60;
    let memory = vec![0_u8; 64 * 1024];
    let (panel, next) = memory.split_at(memory.len() / 2);
    let of_next: HashSet<usize> = next.chunks_exact(LINE).map(|line| line.as_ptr().addr() / LINE).collect();
    for (blocks, turns) in [(18, 1), (18, 2), (18, 6), (48, 10), (1, 7)] {
        let mut errand = Errand::default();
        errand.fill(LINE, (0..100).map(|line| line * LINE));
        let ask = |errand: &Errand| {
            asked(
                &Ahead::new(Isa::Portable, panel, next, Format::of(DType::Q4_0), blocks, [5, turns], errand),
                turns,
                blocks,
            )
        };
        let (lines, times) = ask(&errand);
        assert!(lines.is_superset(&of_next), "{blocks} blocks, {turns} groups");
        assert!(times < of_next.len() + turns * blocks, "as few lines with each block as do");

        errand.begin(FAR);
        let (lines, _) = ask(&errand);
        assert!(lines.is_superset(&of_next), "{blocks} blocks, {turns} groups with an errand");
        let far = lines.iter().filter(|&&line| line >= FAR / LINE).count();
        let own = (of_next.len()).div_ceil(blocks * of_next.len().div_ceil(turns * blocks).max(super::DENSE));
        assert_eq!(far > 0, turns > own, "{blocks} blocks, {turns} groups: {far}");
    }

    let mut errand = Errand::default();
    errand.fill(LINE, [0].into_iter());
    errand.begin(FAR);
    let floats = Ahead::new(Isa::Portable, panel, next, Format::of(DType::F16), 18, [5, 6], &errand);
    assert_eq!(asked(&floats, 6, 18).1, 0, "kernels over floats ask for nothing");
    assert!(errand.is_open(), "so they leave errands to others");
    let last = Ahead::new(Isa::Portable, panel, &[], Format::of(DType::Q4_0), 1, [5, 2], &errand);
    assert_eq!(
        asked(&last, 2, 1).0,
        HashSet::from([FAR / LINE]),
        "behind the last panel all groups are free"
    );
}
