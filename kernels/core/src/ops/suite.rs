//! One suite for all backends: each op against the reference, with one rule of tolerance. A backend's tests call
//! [`check_all`].

use super::closeness::{assert_close, tolerance};
use crate::arena::{Arena, KvGroup};
use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::CudaBackend;
use crate::backend::reference::ReferenceBackend;
use crate::backend::{Backend, Instruction, Launch, Operand, Tensor};
use crate::dtype::DType;
use crate::op::{Op, RopeStyle, Rows, ValueInfo};
use crate::seats::{Seat, SeatParams, Seats};
use crate::simd::Isa;
use crate::step::{Limits, Step};
use crate::testing::{Random, StepWords, full_group, greedy, has_cuda, targets};
use std::sync::Arc;

const BLOCK_SIZE: usize = 16;
pub(super) const MAX_LEN: usize = 640;
const VOCABULARY: usize = 64;

pub(super) const GROUPS: [KvGroup; 2] = [full_group(2, 2, 64), full_group(1, 3, 40)];

fn limits() -> Limits {
    Limits {
        max_tokens: 1024,
        max_rows: 4,
        max_samples: 1024,
        max_model_len: MAX_LEN,
        block_size: BLOCK_SIZE,
        groups: GROUPS.to_vec(),
        num_blocks: 1 + 4 * 2 * MAX_LEN / BLOCK_SIZE,
        vocab_size: VOCABULARY,
    }
}

/// Ops over values in a row: what is given, what is run, what is compared.
pub(super) struct Case {
    pub(super) values: Vec<ValueInfo>,
    pub(super) given: Vec<Vec<f32>>,
    pub(super) ops: Vec<(Op, Vec<Tensor<'static>>)>,
    pub(super) step: Step,
    /// A step before it, of the first op alone, with the first value.
    pub(super) earlier: Option<(Step, Vec<f32>)>,
}

impl Case {
    /// Values of the last op's outputs.
    fn run(&self, backend: &mut dyn Backend) -> Vec<Vec<f32>> {
        self.run_with(backend, 0)
    }

    /// The same with value `first` as the first in memory and the one before it as the last.
    pub(super) fn run_with(&self, backend: &mut dyn Backend, first: usize) -> Vec<Vec<f32>> {
        let (mut free, mut end) = (0, 0);
        let mut operands: Vec<Operand> = self
            .values
            .iter()
            .map(|value| Operand { offset: 0, width: value.width as usize, rows: value.rows })
            .collect();
        let count = operands.len();
        for i in 0..count {
            let operand = &mut operands[(first + i) % count];
            operand.offset = free;
            let steps = self.earlier.iter().map(|earlier| &earlier.0).chain([&self.step]);
            let rows = steps.map(|step| step.rows_of(operand.rows)).max().unwrap_or(0);
            end = free + rows * operand.width * 4;
            free = end.next_multiple_of(64);
        }
        let activations = backend.alloc(end).unwrap();
        let page_bytes = backend.page_bytes(&GROUPS, BLOCK_SIZE).unwrap();
        let arena = Arena {
            pages: backend.alloc_pages(page_bytes, limits().num_blocks).unwrap(),
            block_size: BLOCK_SIZE,
            element_bytes: backend.kv_element_bytes(),
            groups: GROUPS.to_vec(),
        };
        let place = |id: u32| operands[id as usize];
        let mut prepared = |(op, weights): &(Op, Vec<Tensor<'static>>)| {
            backend.supports(op, weights).unwrap();
            Instruction {
                op: op.clone(),
                inputs: op.inputs().into_iter().map(place).collect(),
                outputs: op.outputs().into_iter().map(place).collect(),
                prepared: backend.prepare(op, weights).unwrap(),
            }
        };
        let instructions: Vec<Instruction> = self.ops.iter().map(&mut prepared).collect();
        backend.reserve(&limits()).unwrap();
        let mut run = |step: &Step, given: &[Vec<f32>], instructions: &[Instruction]| {
            for (operand, values) in operands.iter().zip(given) {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
                backend.upload(activations, operand.offset, &bytes).unwrap();
            }
            let mut launch = Launch {
                step,
                activations,
                arena: &arena,
                seats: &mut Seats::new(limits().max_rows),
                sampled: &mut Vec::new(),
            };
            backend.run(instructions, &mut launch).unwrap();
            backend.synchronize().unwrap();
        };
        if let Some((step, given)) = &self.earlier {
            run(step, std::slice::from_ref(given), &instructions[..1]);
        }
        run(&self.step, &self.given, &instructions);
        let (last, _) = &self.ops[self.ops.len() - 1];
        let read = |id: u32| {
            let operand = operands[id as usize];
            let mut bytes = vec![0; self.step.rows_of(operand.rows) * operand.width * 4];
            backend.download(activations, operand.offset, &mut bytes).unwrap();
            bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
        };
        last.outputs().into_iter().map(read).collect()
    }

    pub(super) fn check(&self, backend: &mut dyn Backend) {
        let expected = self.run(&mut ReferenceBackend::new(1));
        let found = self.run(backend);
        let (op, weights) = &self.ops[self.ops.len() - 1];
        let tolerance = tolerance(op, weights.first().map(|weight| weight.dtype));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(&format!("{} {}", backend.name(), op.label()), found, expected, tolerance);
        }
    }
}

pub(super) fn step(rows: &[(usize, usize, usize)], samples: &[usize]) -> Step {
    let tokens: Vec<i32> = (0..limits().max_tokens).map(|i| (i * 37 % VOCABULARY) as i32).collect();
    let rows: Vec<_> =
        rows.iter().map(|&(seat, start, len)| (seat, start, &tokens[seat..seat + len])).collect();
    let targets = targets(&rows, samples);
    let (samples, blocks_per_seat) = (samples.to_vec(), MAX_LEN / BLOCK_SIZE - 1);
    let words = StepWords {
        id: 0,
        rows,
        samples,
        block_size: BLOCK_SIZE,
        blocks_per_seat,
        windows: vec![0; 2],
        targets,
        copies: vec![],
    };
    words.parse(&limits())
}

/// One op on random rows.
pub(super) fn single(
    random: &mut Random,
    rows: usize,
    inputs: &[(Rows, u32)],
    outputs: &[(Rows, u32)],
    op: Op,
    weights: Vec<Tensor<'static>>,
) -> Case {
    let step = step(&[(1, 3, rows)], &[0, rows / 2, rows - 1][..rows.min(3)]);
    let values: Vec<ValueInfo> =
        inputs.iter().chain(outputs).map(|&(rows, width)| ValueInfo { rows, width }).collect();
    let given = values[..inputs.len()]
        .iter()
        .map(|value| random.normals(step.rows_of(value.rows) * value.width as usize))
        .collect();
    Case { values, given, ops: vec![(op, weights)], step, earlier: None }
}

/// Everything below on a backend; `make` gives a fresh one.
pub(crate) fn check_all(make: impl Fn() -> Box<dyn Backend>) {
    check_linear(&make);
    check_rows(&make);
    check_rope(&make);
    check_attention(&make);
    check_sampling(&make);
}

/// Matrices of every type, one and many rows, widths off every tile, several weights of different types and biases.
pub(crate) fn check_linear(make: impl Fn() -> Box<dyn Backend>) {
    let mut random = Random(1);
    for dtype in DType::ALL {
        for (rows, cols, widths) in [(1, 256, vec![7]), (5, 512, vec![64, 33]), (67, 256, vec![40, 8, 8])] {
            for with_bias in [false, true] {
                let matrices: Vec<_> = widths
                    .iter()
                    .map(|&width| random.tensor(&format!("w{width}"), dtype, width, cols, 1.0))
                    .collect();
                let biases: Vec<_> = widths
                    .iter()
                    .filter(|_| with_bias)
                    .map(|&width| random.tensor(&format!("b{width}"), DType::F32, 1, width, 5.0))
                    .collect();
                let names = |tensors: &[Tensor<'_>]| tensors.iter().map(|t| t.name.to_owned()).collect();
                let op = Op::Linear {
                    label: format!("linear {dtype:?} {rows} x {cols} x {widths:?} bias {with_bias}"),
                    x: 0,
                    weights: names(&matrices),
                    biases: names(&biases),
                    out: 1,
                };
                let out = widths.iter().sum::<usize>() as u32;
                let weights = [matrices, biases].concat();
                single(
                    &mut random,
                    rows,
                    &[(Rows::Tokens, cols as u32)],
                    &[(Rows::Tokens, out)],
                    op,
                    weights,
                )
                .check(make().as_mut());
            }
        }
    }
    let tensors: Vec<_> = [DType::Q4_K, DType::Q6_K, DType::F16]
        .iter()
        .map(|&dtype| random.tensor(&format!("{dtype:?}"), dtype, 24, 256, 1.0))
        .collect();
    let weights = tensors.iter().map(|tensor| tensor.name.to_owned()).collect();
    let op = Op::Linear { label: "linear of mixed types".into(), x: 0, weights, biases: vec![], out: 1 };
    single(&mut random, 3, &[(Rows::Samples, 256)], &[(Rows::Samples, 72)], op, tensors)
        .check(make().as_mut());
}

/// Ops that work row by row.
pub(crate) fn check_rows(make: impl Fn() -> Box<dyn Backend>) {
    let mut random = Random(2);
    for (rows, width) in [(1, 8), (3, 576), (40, 71)] {
        let label = |name: &str| format!("{name} {rows} x {width}");
        let one = (Rows::Tokens, width);
        let norm = |random: &mut Random| random.tensor("norm", DType::F32, 1, width as usize, 1.0);
        let cases = [
            {
                let op =
                    Op::RmsNorm { label: label("rmsNorm"), x: 0, weight: "norm".into(), eps: 1e-5, out: 1 };
                let weights = vec![norm(&mut random)];
                single(&mut random, rows, &[one], &[one], op, weights)
            },
            {
                let op = Op::AddRmsNorm {
                    label: label("addRmsNorm"),
                    x: 0,
                    residual: 1,
                    weight: "norm".into(),
                    eps: 1e-5,
                    sum: 2,
                    out: 3,
                };
                let weights = vec![norm(&mut random)];
                single(&mut random, rows, &[one, one], &[one, one], op, weights)
            },
            {
                let op = Op::Add { label: label("add"), x: 0, y: 1, out: 2 };
                single(&mut random, rows, &[one, one], &[one], op, vec![])
            },
            {
                let op = Op::SiluMul { label: label("siluMul"), x: 0, out: 1 };
                single(&mut random, rows, &[(Rows::Tokens, 2 * width)], &[one], op, vec![])
            },
            {
                let op = Op::GatherSamples { label: label("gatherSamples"), x: 0, out: 1 };
                single(&mut random, rows, &[one], &[(Rows::Samples, width)], op, vec![])
            },
        ];
        for case in cases {
            case.check(make().as_mut());
        }
    }
    for dtype in DType::ALL {
        let op = Op::Embed { label: format!("embed {dtype:?}"), weight: "table".into(), out: 0 };
        let weights = vec![random.tensor("table", dtype, VOCABULARY, 256, 1.0)];
        single(&mut random, 9, &[], &[(Rows::Tokens, 256)], op, weights).check(make().as_mut());
    }
}

/// Both styles, partial rotation, factors, far positions.
pub(crate) fn check_rope(make: impl Fn() -> Box<dyn Backend>) {
    let mut random = Random(3);
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        for (dims, with_factors) in [(64, false), (64, true), (24, false)] {
            let op = Op::Rope {
                label: format!("rope {style:?} {dims} factors {with_factors}"),
                x: 0,
                num_heads: 3,
                head_dim: 64,
                dims,
                theta: 10_000.0,
                style,
                frequencies: with_factors.then(|| "factors".into()),
                out: 1,
            };
            let mut factors = random.tensor("factors", DType::F32, 1, dims as usize / 2, 1.0);
            factors.bytes =
                (0..dims / 2).flat_map(|i| (1.0 + i as f32).to_le_bytes()).collect::<Vec<u8>>().leak();
            let weights = if with_factors { vec![factors] } else { vec![] };
            let both = (Rows::Tokens, 5 * 64);
            let mut case = single(&mut random, 4, &[both], &[both], op, weights);
            case.step = step(&[(0, 500, 3), (2, 0, 1)], &[0]);
            case.check(make().as_mut());
        }
    }
}

/// Stored and read back through scattered blocks: mixed rows, both groups, windows, caps. Where a sequence does not begin at its
/// first position, an earlier step has stored what comes before. On tensor cores a prompt's last tokens and a few drafts are a
/// tile of other kernels than its first ones, and lengths on both sides of 256 positions, a split, are merged.
pub(crate) fn check_attention(make: impl Fn() -> Box<dyn Backend>) {
    let mut random = Random(4);
    for (group, layer, num_heads) in [(0, 1, 6), (1, 0, 3)] {
        let KvGroup { num_kv_heads, head_dim, .. } = GROUPS[group as usize];
        let width = (num_heads + 2 * num_kv_heads) * head_dim;
        for (rows, window, soft_cap) in [
            (vec![(0, 0, 1)], None, None),
            (vec![(0, 0, 300), (1, 0, 15), (2, 0, 16), (3, 0, 1)], None, None),
            (vec![(0, 0, 300), (1, 0, 15), (2, 0, 33)], Some(20), None),
            (vec![(2, 0, 592)], None, Some(2.0)),
            (vec![(0, 591, 1), (1, 256, 1), (3, 0, 1)], None, None),
            (vec![(0, 599, 1), (2, 255, 1)], Some(300), Some(3.0)),
            (vec![(1, 407, 5)], None, None),
            (vec![(1, 407, 13)], None, None),
        ] {
            let label = format!("attention group {group} {rows:?} window {window:?} softCap {soft_cap:?}");
            let qkv = ValueInfo { rows: Rows::Tokens, width };
            let out = ValueInfo { rows: Rows::Tokens, width: num_heads * head_dim };
            let before: Vec<_> =
                rows.iter().filter(|row| row.1 > 0).map(|&(seat, start, _)| (seat, 0, start)).collect();
            let mut tokens = |rows: &[(usize, usize, usize)]| {
                let step = step(rows, &[0]);
                let values = random.normals(step.tokens.len() * width as usize);
                (step, values)
            };
            let earlier = (!before.is_empty()).then(|| tokens(&before));
            let (step, given) = tokens(&rows);
            let store = Op::StoreKv {
                label: "storeKv".into(),
                qkv: 0,
                group,
                layer,
                num_heads,
                num_kv_heads,
                head_dim,
            };
            let scale = 1.5 / f64::from(head_dim).sqrt();
            let attend = Op::Attention {
                label,
                qkv: 0,
                group,
                layer,
                num_heads,
                num_kv_heads,
                head_dim,
                scale,
                window,
                soft_cap,
                out: 1,
            };
            // The cpu backend has no caps; `program.rs` tests that it says so.
            if soft_cap.is_some() && make().name().starts_with("cpu") {
                continue;
            }
            let ops = vec![(store, vec![]), (attend, vec![])];
            Case { values: vec![qkv, out], given: vec![given], ops, step, earlier }.check(make().as_mut());
        }
    }
}

/// Sampled tokens and log-probabilities are the reference's to the bit: the sampler is one function.
pub(crate) fn check_sampling(make: impl Fn() -> Box<dyn Backend>) {
    let mut random = Random(6);
    // Seat 0 scores a token, then picks; seat 3 is free.
    let step = step(&[(0, 0, 2), (1, 0, 1), (2, 0, 1), (3, 0, 1)], &[0, 1, 2, 3, 4]);
    let mut logits = random.normals(5 * VOCABULARY);
    logits[2 * VOCABULARY + 7] = f32::NAN;
    let scores = SeatParams { prompt_logprobs: 3, top_logprobs: 0, ..greedy() };
    let warm = SeatParams { temperature: 0.8, top_p: 0.9, ..greedy() };
    let edited = SeatParams {
        temperature: 1.2,
        top_k: 40,
        min_p: 0.01,
        repetition_penalty: 1.3,
        presence_penalty: 0.25,
        frequency_penalty: -0.5,
        logit_bias_ids: vec![3, 4],
        logit_biases: vec![2.0, -3.0],
        bad_words: vec![vec![11], vec![3, 12]],
        min_tokens: 5,
        stop_ids: vec![60],
        top_logprobs: 6,
        prompt_length: 4,
        seed_low: 9,
        ..greedy()
    };
    let pick = |backend: &mut dyn Backend| {
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let activations = backend.alloc(bytes.len()).unwrap();
        backend.upload(activations, 0, &bytes).unwrap();
        let op = Op::Sample { label: "sample".into(), logits: 0 };
        let instruction = Instruction {
            inputs: vec![Operand { offset: 0, width: VOCABULARY, rows: Rows::Samples }],
            outputs: vec![],
            prepared: backend.prepare(&op, &[]).unwrap(),
            op,
        };
        let arena = Arena {
            pages: backend.alloc_pages(64, 2).unwrap(),
            block_size: BLOCK_SIZE,
            element_bytes: 1,
            groups: vec![],
        };
        backend.reserve(&limits()).unwrap();
        let mut seats = Seats::new(4);
        seats.open(0, Seat::new(scores.clone(), &[]));
        seats.open(1, Seat::new(warm.clone(), &[]));
        seats.open(2, Seat::new(edited.clone(), &[1, 2, 3, 2]));
        let mut sampled = Vec::new();
        for _ in 0..20 {
            let mut launch =
                Launch { step: &step, activations, arena: &arena, seats: &mut seats, sampled: &mut sampled };
            backend.run(std::slice::from_ref(&instruction), &mut launch).unwrap();
        }
        sampled
    };
    let expected = pick(&mut ReferenceBackend::new(1));
    assert_eq!(expected.len(), 100);
    let picked: Vec<bool> = expected[..5].iter().map(|sample| sample.token >= 0).collect();
    assert_eq!(picked, [false, true, true, true, false]);
    assert!(expected[0].top.len() == 3 && expected[3].top.len() == 6 && expected[3].rank > 0);
    assert_eq!(pick(make().as_mut()), expected);
}

#[test]
fn the_reference_agrees_with_itself_on_three_threads() {
    check_all(|| Box::new(ReferenceBackend::new(3)));
}

#[test]
fn the_cpu_backend_agrees_on_every_instruction_set_of_this_machine() {
    for isa in Isa::all() {
        check_all(|| Box::new(CpuBackend::new(isa.name(), 2).unwrap()));
    }
}

/// Skipped where there is no CUDA device: [`has_cuda`]. One test a part, so that a fault is told by what it breaks.
fn on_cuda(check: impl Fn(&dyn Fn() -> Box<dyn Backend>)) {
    if has_cuda() {
        let device = CudaBackend::device("cuda").unwrap();
        check(&|| Box::new(CudaBackend::on(Arc::clone(&device), 2).unwrap()));
    }
}

#[test]
fn the_cuda_backend_agrees_on_linear() {
    on_cuda(|make| check_linear(make));
}

#[test]
fn the_cuda_backend_agrees_on_rows() {
    on_cuda(|make| check_rows(make));
}

#[test]
fn the_cuda_backend_agrees_on_rope() {
    on_cuda(|make| check_rope(make));
}

#[test]
fn the_cuda_backend_agrees_on_attention() {
    on_cuda(|make| check_attention(make));
}

#[test]
fn the_cuda_backend_agrees_on_sampling() {
    on_cuda(|make| check_sampling(make));
}

#[test]
fn a_difference_beyond_the_rule_is_found() {
    let off = std::panic::catch_unwind(|| assert_close("x", &[1.0, 1.1], &[1.0, 1.0], 0.01));
    assert!(off.is_err());
}
