//! Random shapes on every instruction set: the bits of the portable kernels, with each value in turn as the first and the last
//! of a buffer that lies between guards (`mapping.rs`), so that a kernel which reaches beyond its rows ends the process.

use super::suite::{Case, GROUPS, MAX_LEN, single, step};
use crate::arena::KvGroup;
use crate::backend::cpu::CpuBackend;
use crate::dtype::DType;
use crate::op::{Op, RopeStyle, Rows, ValueInfo};
use crate::simd::Isa;
use crate::testing::Random;

/// As many as are run in seconds also under an emulator.
const ROUNDS: usize = 12;

fn bits(values: &[Vec<f32>]) -> Vec<u32> {
    values.iter().flatten().map(|x| x.to_bits()).collect()
}

fn same_bits(case: &Case) {
    let run = |isa: Isa, threads, first| {
        bits(&case.run_with(&mut CpuBackend::new(isa.name(), threads).unwrap(), first))
    };
    let expected = run(Isa::Portable, 1, 0);
    for isa in Isa::all() {
        for first in 0..case.values.len() {
            let (op, _) = &case.ops[case.ops.len() - 1];
            assert!(
                run(isa, 1 + first % 2, first) == expected,
                "{} {} value {first} first",
                isa.name(),
                op.label()
            );
        }
    }
}

fn check(case: &Case) {
    same_bits(case);
    case.check(&mut CpuBackend::new("auto", 2).unwrap());
}

/// Often 1, else 1 to `most`.
fn some(random: &mut Random, most: usize) -> usize {
    if random.below(4) == 0 { 1 } else { 1 + random.below(most) }
}

#[test]
fn linear() {
    let mut random = Random(11);
    for dtype in DType::ALL {
        for _ in 0..ROUNDS / 2 {
            let rows = some(&mut random, 20);
            let cols = if dtype.block_len() == 1 {
                some(&mut random, 150)
            } else {
                dtype.block_len() * some(&mut random, 3)
            };
            let widths: Vec<usize> = (0..some(&mut random, 3)).map(|_| some(&mut random, 70)).collect();
            let weights: Vec<_> = widths
                .iter()
                .map(|&width| random.tensor(&format!("w{width}"), dtype, width, cols, 1.0))
                .collect();
            let op = Op::Linear {
                label: format!("linear {dtype:?} {rows} x {cols} x {widths:?}"),
                x: 0,
                weights: weights.iter().map(|tensor| tensor.name.to_owned()).collect(),
                biases: vec![],
                out: 1,
            };
            let (input, output) = (cols as u32, widths.iter().sum::<usize>() as u32);
            // The rule of tolerance is one for many outputs: of few, one may be near 0 by chance.
            same_bits(&single(
                &mut random,
                rows,
                &[(Rows::Tokens, input)],
                &[(Rows::Tokens, output)],
                op,
                weights,
            ));
        }
    }
}

#[test]
fn ops_that_work_row_by_row() {
    let mut random = Random(12);
    for _ in 0..ROUNDS {
        let (rows, width) = (some(&mut random, 40), some(&mut random, 200) as u32);
        let label = |name: &str| format!("{name} {rows} x {width}");
        let one = (Rows::Tokens, width);
        let norm = random.tensor("norm", DType::F32, 1, width as usize, 1.0);
        let (weight, eps) = (String::from("norm"), 1e-5);
        let op = Op::RmsNorm { label: label("rmsNorm"), x: 0, weight: weight.clone(), eps, out: 1 };
        check(&single(&mut random, rows, &[one], &[one], op, vec![norm]));
        let op =
            Op::AddRmsNorm { label: label("addRmsNorm"), x: 0, residual: 1, weight, eps, sum: 2, out: 3 };
        check(&single(&mut random, rows, &[one, one], &[one, one], op, vec![norm]));
        let op = Op::Add { label: label("add"), x: 0, y: 1, out: 2 };
        check(&single(&mut random, rows, &[one, one], &[one], op, vec![]));
        let op = Op::SiluMul { label: label("siluMul"), x: 0, out: 1 };
        check(&single(&mut random, rows, &[(Rows::Tokens, 2 * width)], &[one], op, vec![]));
        let op = Op::GatherSamples { label: label("gatherSamples"), x: 0, out: 1 };
        check(&single(&mut random, rows, &[one], &[(Rows::Samples, width)], op, vec![]));
    }
}

#[test]
fn rope() {
    let mut random = Random(13);
    for round in 0..ROUNDS {
        let (rows, num_heads, pairs) =
            (some(&mut random, 9), some(&mut random, 4) as u32, some(&mut random, 20) as u32);
        let head_dim = 2 * pairs + 2 * random.below(3) as u32;
        let both = (Rows::Tokens, num_heads * head_dim + random.below(9) as u32);
        let op = Op::Rope {
            label: format!("rope {rows} x {num_heads} x {head_dim}, {} rotated", 2 * pairs),
            x: 0,
            num_heads,
            head_dim,
            dims: 2 * pairs,
            theta: 10_000.0,
            style: if round % 2 == 0 { RopeStyle::Interleaved } else { RopeStyle::Halves },
            frequencies: None,
            out: 1,
        };
        check(&single(&mut random, rows, &[both], &[both], op, vec![]));
    }
}

#[test]
fn attention() {
    let mut random = Random(14);
    for _ in 0..ROUNDS {
        let group = random.below(2) as u32;
        let KvGroup { layers, num_kv_heads, head_dim, .. } = GROUPS[group as usize];
        let layer = random.below(layers as usize) as u32;
        let num_heads = num_kv_heads * some(&mut random, 5) as u32;
        let width = (num_heads + 2 * num_kv_heads) * head_dim;
        let rows: Vec<(usize, usize, usize)> =
            (0..some(&mut random, 4)).map(|seat| (seat, 0, some(&mut random, MAX_LEN / 2))).collect();
        let window = if random.below(3) == 0 { Some(1 + random.below(50) as u32) } else { None };
        let values = [width, num_heads * head_dim].map(|width| ValueInfo { rows: Rows::Tokens, width });
        let step = step(&rows, &[0]);
        let given = vec![random.normals(step.tokens.len() * width as usize)];
        let place = String::from("storeKv");
        let store = Op::StoreKv { label: place, qkv: 0, group, layer, num_heads, num_kv_heads, head_dim };
        let attend = Op::Attention {
            label: format!("attention group {group} {num_heads} heads {rows:?} window {window:?}"),
            qkv: 0,
            group,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
            scale: 1.0 / f64::from(head_dim).sqrt(),
            window,
            soft_cap: None,
            out: 1,
        };
        let ops = vec![(store, vec![]), (attend, vec![])];
        check(&Case { values: values.to_vec(), given, ops, step, earlier: None });
    }
}
