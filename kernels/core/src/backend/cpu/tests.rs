//! Ops on the backend as a whole: against the reference, and bit for bit against themselves in other company.

use super::CpuBackend;
use crate::arena::{Arena, GroupKind, KvGroup};
use crate::backend::reference::ReferenceBackend;
use crate::backend::{Backend, BufferId, Instruction, Launch, Operand, Sampled, Tensor};
use crate::dtype::DType;
use crate::op::{Op, RopeStyle, Rows};
use crate::ops::attention::cpu::layout::KvDType;
use crate::pages::Pages;
use crate::seats::Seats;
use crate::simd::Isa;
use crate::step::{Limits, Step};
use crate::testing::{Random, StepWords, full_group, limits, targets};

/// Those of this machine.
fn isas() -> Vec<&'static str> {
    Isa::all().map(Isa::name).collect()
}

fn isas_and_types() -> Vec<(&'static str, KvDType)> {
    isas().into_iter().flat_map(|isa| KvDType::ALL.map(|kv| (isa, kv))).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn close(got: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), wanted.len());
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!(
            (got - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
            "{what} [{i}]: {got}, wanted {wanted}"
        );
    }
}

/// Runs instructions on `activations`, as one where `as_one` says how many are, else one after the other. Answers what was picked.
pub(super) fn run_instructions(
    backend: &mut CpuBackend,
    instructions: &[Instruction],
    activations: BufferId,
    step: &Step,
    seats: &mut Seats,
    as_one: Option<usize>,
) -> Vec<Sampled> {
    let pages = Pages::map(64, 2).unwrap();
    let arena = Arena { pages, block_size: 16, element_bytes: 2, groups: vec![] };
    let mut sampled = Vec::new();
    let mut launch = Launch { step, activations, arena: &arena, seats, sampled: &mut sampled };
    if let Some(count) = as_one {
        backend.start(instructions, activations, &arena, &limits()).unwrap();
        assert_eq!(backend.together(instructions), count, "{}", backend.name());
        backend.run(instructions, &mut launch).unwrap();
    } else {
        for one in instructions {
            backend.launch(one, &mut launch).unwrap();
        }
    }
    sampled
}

const MOST_TOKENS: usize = 700;
const MODEL_LEN: usize = 1024;

/// One backend, one activation buffer, one arena with one group of two layers.
struct Bench {
    backend: Box<dyn Backend>,
    activations: BufferId,
    arena: Arena,
    heads: (u32, u32, u32),
    /// Table entries that are left of this window are null; 0 = no window.
    nulls_left_of: usize,
}

impl Bench {
    #[expect(unsafe_code, reason = "fills pages")]
    fn new(mut backend: Box<dyn Backend>, heads: (u32, u32, u32), block_size: usize) -> Self {
        let groups = vec![full_group(2, heads.1, heads.2)];
        let page_bytes = backend.page_bytes(&groups, block_size).expect("a size");
        let num_blocks = 1 + 4 * MODEL_LEN / block_size;
        let element_bytes = backend.kv_element_bytes();
        let pages = backend.alloc_pages(page_bytes, num_blocks).expect("memory");
        for block in 0..num_blocks {
            // What another sequence left behind must not matter, nor may the null block: all elements are NaN.
            // SAFETY: nobody else has the pages yet.
            unsafe { pages.page_mut(block) }.fill(0xff);
        }
        let arena = Arena { pages, block_size, element_bytes, groups };
        let activations = backend.alloc(64 << 20).expect("memory");
        Self { backend, activations, arena, heads, nulls_left_of: 0 }
    }

    fn cpu(isa: &str, threads: usize, heads: (u32, u32, u32), block_size: usize) -> Self {
        Self::kept(KvDType::F16, isa, threads, heads, block_size)
    }

    fn kept(kv: KvDType, isa: &str, threads: usize, heads: (u32, u32, u32), block_size: usize) -> Self {
        let mut backend = CpuBackend::new(isa, threads).expect("isa");
        backend.use_kv_dtype(kv.name()).expect("a type");
        Self::new(Box::new(backend), heads, block_size)
    }

    /// Rows of (seat, start, tokens); a seat's blocks lie scattered among the others'.
    fn step(&self, rows: &[(usize, usize, usize)], samples: &[usize]) -> Step {
        let tokens: Vec<i32> = (0..MOST_TOKENS as i32).collect();
        let rows: Vec<_> = rows.iter().map(|&(seat, start, len)| (seat, start, &tokens[..len])).collect();
        let kind = if self.nulls_left_of == 0 { GroupKind::Full } else { GroupKind::Window };
        let limits = Limits {
            max_tokens: MOST_TOKENS,
            max_rows: 4,
            max_samples: MOST_TOKENS,
            max_model_len: MODEL_LEN,
            block_size: self.arena.block_size,
            groups: vec![KvGroup { kind, window: self.nulls_left_of as u32, ..self.arena.groups[0] }],
            num_blocks: self.arena.pages.num_pages(),
            vocab_size: MOST_TOKENS,
        };
        let words = StepWords {
            id: 7,
            targets: targets(&rows, samples),
            samples: samples.to_vec(),
            rows,
            block_size: limits.block_size,
            blocks_per_seat: MODEL_LEN / limits.block_size,
            windows: vec![self.nulls_left_of],
            copies: vec![],
        };
        words.parse(&limits)
    }

    /// Runs one op. `places` says where each input lies (floats from the start); outputs follow `out_at`.
    fn op(
        &mut self,
        op: &Op,
        weights: &[Tensor<'static>],
        step: &Step,
        inputs: &[(&[f32], usize, Rows)],
        outputs: &[(usize, usize, Rows)],
    ) -> Vec<Vec<f32>> {
        let mut offset = 0;
        let mut operands = Vec::new();
        for (values, width, rows) in inputs {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
            self.backend.upload(self.activations, offset, &bytes).unwrap();
            operands.push(Operand { offset, width: *width, rows: *rows });
            offset = (offset + bytes.len()).next_multiple_of(64);
        }
        let outputs: Vec<Operand> = outputs
            .iter()
            .map(|&(input, width, rows)| {
                let place = operands.get(input).map_or(offset, |o| o.offset);
                if input >= operands.len() {
                    offset = (offset + step.rows_of(rows) * width * 4).next_multiple_of(64);
                }
                Operand { offset: place, width, rows }
            })
            .collect();
        self.backend.supports(op, weights).expect("supported");
        let prepared = self.backend.prepare(op, weights).expect("memory");
        let instruction =
            Instruction { op: op.clone(), inputs: operands, outputs: outputs.clone(), prepared };
        let mut launch = Launch {
            step,
            activations: self.activations,
            arena: &self.arena,
            seats: &mut Seats::new(4),
            sampled: &mut Vec::new(),
        };
        self.backend.launch(&instruction, &mut launch).expect("launched");
        outputs
            .iter()
            .map(|o| {
                let mut bytes = vec![0; step.rows_of(o.rows) * o.width * 4];
                self.backend.download(self.activations, o.offset, &mut bytes).unwrap();
                bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
            })
            .collect()
    }

    fn qkv_width(&self) -> usize {
        ((self.heads.0 + 2 * self.heads.1) * self.heads.2) as usize
    }

    /// Stores K and V, then attends.
    fn attend(&mut self, step: &Step, qkv: &[f32], layer: u32, window: Option<u32>) -> Vec<f32> {
        let (num_heads, num_kv_heads, head_dim) = self.heads;
        let width = self.qkv_width();
        let (label, group, qkv_id) = (String::from("attention"), 0, 0);
        let store = Op::StoreKv {
            label: label.clone(),
            qkv: qkv_id,
            group,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
        };
        self.op(&store, &[], step, &[(qkv, width, Rows::Tokens)], &[]);
        let attention = Op::Attention {
            label,
            qkv: qkv_id,
            group,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
            scale: f64::from(head_dim).sqrt().recip(),
            window,
            soft_cap: None,
            out: 1,
        };
        let out = (usize::MAX, (num_heads * head_dim) as usize, Rows::Tokens);
        self.op(&attention, &[], step, &[(qkv, width, Rows::Tokens)], &[out]).remove(0)
    }
}

/// Values that IEEE halves and bfloat16 hold exactly, so that the reference with f32 KV sees the same.
fn shorts(random: &mut Random, count: usize) -> Vec<f32> {
    let short = |x: f32| half::f16::from_f32(half::bf16::from_f32(x).to_f32()).to_f32();
    (0..count).map(|_| short(random.normal())).collect()
}

/// What attention may differ from the reference by when it is given [`shorts`]: f16 computes in f32; bfloat16 rounds queries
/// times the scale (with 256 dims scores of about 1 are off by 2^-9 * 16 / 16) and weights to 8 bits.
fn tolerance(kv: KvDType) -> f32 {
    match kv {
        KvDType::F16 => 2e-5,
        KvDType::BF16 => 1e-2,
        KvDType::Q16 => 1e-3,
        KvDType::Q8 => 3e-2,
    }
}

#[test]
fn attention_agrees_with_the_reference() {
    let mut random = Random(11);
    let shapes = [(9, 3, 64), (4, 4, 8), (8, 1, 72), (2, 1, 256), (16, 2, 128)];
    for (shape, heads) in shapes.into_iter().enumerate() {
        let block_size = [16, 32, 48][shape % 3];
        for window in [None, Some(1), Some(100), Some(300)] {
            let mut reference = Bench::new(Box::new(ReferenceBackend::new(1)), heads, 16);
            let width = reference.qkv_width();
            let rows: [&[(usize, usize, usize)]; 4] = [
                &[(0, 0, 290)],
                &[(1, 0, 20), (0, 290, 1)],
                &[(0, 291, 30), (1, 20, 1), (2, 0, 5)],
                &[(1, 21, 1)],
            ];
            let inputs: Vec<Vec<f32>> = rows
                .iter()
                .map(|r| shorts(&mut random, r.iter().map(|r| r.2).sum::<usize>() * width))
                .collect();
            let wanted: Vec<Vec<f32>> = rows
                .iter()
                .zip(&inputs)
                .map(|(rows, qkv)| {
                    let step = reference.step(rows, &[]);
                    reference.attend(&step, qkv, 1, window)
                })
                .collect();
            for (isa, kv) in isas_and_types() {
                let mut cpu = Bench::kept(kv, isa, 2, heads, block_size);
                for ((rows, qkv), wanted) in rows.iter().zip(&inputs).zip(&wanted) {
                    let step = cpu.step(rows, &[]);
                    let got = cpu.attend(&step, qkv, 1, window);
                    close(
                        &got,
                        wanted,
                        tolerance(kv),
                        &format!("{isa} {kv:?} heads {heads:?} window {window:?} rows {rows:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn attention_bits_depend_neither_on_chunks_nor_on_threads_nor_on_company() {
    let mut random = Random(12);
    let heads = (6, 2, 16);
    let tokens = 600;
    let width = ((6 + 4) * 16) as usize;
    let qkv = random.normals(tokens * width);
    let others = random.normals(tokens * width);
    for (window, kv) in [None, Some(70)].into_iter().flat_map(|w| KvDType::ALL.map(|kv| (w, kv))) {
        let mut whole = Bench::kept(kv, "portable", 1, heads, 16);
        let step = whole.step(&[(0, 0, tokens)], &[]);
        let wanted = bits(&whole.attend(&step, &qkv, 0, window));
        for isa in isas() {
            for (threads, chunk, company) in
                [(1, 1, false), (2, 7, true), (3, 64, true), (2, tokens, false), (3, 1, true), (2, 1, false)]
            {
                let mut bench = Bench::kept(kv, isa, threads, heads, 16);
                let mut got = Vec::new();
                let mut start = 0;
                while start < tokens {
                    let len = chunk.min(tokens - start);
                    let input = &qkv[start * width..][..len * width];
                    if company {
                        // Two tokens of another sequence before, one of a third after.
                        let step = bench.step(&[(2, start % 300, 2), (0, start, len), (3, start, 1)], &[]);
                        let input = [&others[..2 * width], input, &others[start * width..][..width]].concat();
                        let out = bench.attend(&step, &input, 0, window);
                        got.extend(&out[2 * 96..(2 + len) * 96]);
                    } else {
                        let step = bench.step(&[(0, start, len)], &[]);
                        got.extend(bench.attend(&step, input, 0, window));
                    }
                    start += len;
                }
                assert_eq!(
                    bits(&got),
                    wanted,
                    "{isa} {kv:?} {threads} threads, chunks of {chunk}, window {window:?}"
                );
            }
        }
    }
}

/// The blocks of the first `shared` positions of all rows become those of seat 0.
fn share(bench: &Bench, step: &mut Step, shared: usize) {
    let first = bench.step(&[(0, 0, shared)], &[]);
    let mut at = 0;
    for row in 0..step.rows.len() {
        step.blocks[at..at + first.blocks.len()].copy_from_slice(&first.blocks);
        at += step.table(0, row).len();
    }
}

#[test]
fn attention_bits_of_rows_that_share_blocks_are_those_they_have_alone() {
    let mut random = Random(16);
    let (heads, shared) = ((6, 2, 16), 528);
    let width = ((6 + 4) * 16) as usize;
    let prefix = random.normals(shared * width);
    let rows = [(0, shared + 70, 1), (1, shared, 1), (2, shared + 300, 1), (3, shared + 9, 1)];
    let tails: Vec<Vec<f32>> = rows.iter().map(|row| random.normals((row.1 + 1 - shared) * width)).collect();
    for (isa, kv) in isas_and_types() {
        for window in [None, Some(100), Some(400)] {
            let mut bench = Bench::kept(kv, isa, 2, heads, 16);
            let step = bench.step(&[(0, 0, shared)], &[]);
            bench.attend(&step, &prefix, 0, window);
            let mut alone = Vec::new();
            for (&(seat, end, _), tail) in rows.iter().zip(&tails) {
                let mut last = Vec::new();
                for (start, qkv) in (shared..=end).zip(tail.chunks_exact(width)) {
                    let mut step = bench.step(&[(seat, start, 1)], &[]);
                    share(&bench, &mut step, shared);
                    last = bench.attend(&step, qkv, 0, window);
                }
                alone.extend(last);
            }
            let mut step = bench.step(&rows, &[]);
            share(&bench, &mut step, shared);
            let last: Vec<f32> = tails.iter().flat_map(|tail| &tail[tail.len() - width..]).copied().collect();
            let together = bench.attend(&step, &last, 0, window);
            assert_eq!(bits(&together), bits(&alone), "{isa} {kv:?} window {window:?}");
        }
    }
}

impl Bench {
    /// Rotates rows, in place or not, and stores them: both ops as one or one after the other. Answers the rotated rows and all pages.
    #[expect(unsafe_code, reason = "reads pages")]
    fn rotate_and_store(
        &mut self,
        step: &Step,
        qkv: &[f32],
        style: RopeStyle,
        in_place: bool,
        as_one: bool,
    ) -> (Vec<u8>, Vec<u8>) {
        let (num_heads, num_kv_heads, head_dim) = self.heads;
        let bytes: Vec<u8> = qkv.iter().flat_map(|v| v.to_ne_bytes()).collect();
        self.backend.upload(self.activations, 0, &bytes).unwrap();
        let x = Operand { offset: 0, width: self.qkv_width(), rows: Rows::Tokens };
        let out = if in_place { x } else { Operand { offset: bytes.len().next_multiple_of(64), ..x } };
        let (label, dims) = (String::new(), head_dim - 2);
        let rope = Op::Rope {
            label: label.clone(),
            x: 0,
            num_heads: num_heads + num_kv_heads,
            head_dim,
            dims,
            theta: 1e4,
            style,
            frequencies: None,
            out: 1,
        };
        let store = Op::StoreKv { label, qkv: 1, group: 0, layer: 1, num_heads, num_kv_heads, head_dim };
        let instructions = [(rope, vec![x], vec![out]), (store, vec![out], vec![])];
        let instructions = instructions.map(|(op, inputs, outputs)| {
            let prepared = self.backend.prepare(&op, &[]).expect("memory");
            Instruction { op, inputs, outputs, prepared }
        });
        let mut launch = Launch {
            step,
            activations: self.activations,
            arena: &self.arena,
            seats: &mut Seats::new(4),
            sampled: &mut Vec::new(),
        };
        if as_one {
            assert_eq!(self.backend.together(&instructions), 2);
            self.backend.run(&instructions, &mut launch).expect("run");
        } else {
            for one in &instructions {
                self.backend.launch(one, &mut launch).expect("launched");
            }
        }
        let mut rotated = vec![0; bytes.len()];
        self.backend.download(self.activations, out.offset, &mut rotated).unwrap();
        let pages = &self.arena.pages;
        // SAFETY: nobody writes the pages now.
        let pages: Vec<&[u8]> = (0..pages.num_pages()).map(|page| unsafe { pages.page(page) }).collect();
        (rotated, pages.concat())
    }
}

#[test]
fn rows_are_rotated_and_stored_as_one_as_they_are_one_after_the_other() {
    let mut random = Random(18);
    for (heads, style) in [(9, 3, 64), (4, 4, 8), (3, 1, 72)].into_iter().zip([
        RopeStyle::Interleaved,
        RopeStyle::Halves,
        RopeStyle::Interleaved,
    ]) {
        let mut wanted = Bench::kept(KvDType::Q16, "portable", 1, heads, 16);
        let rows: [&[(usize, usize, usize)]; 3] =
            [&[(0, 0, 150)], &[(1, 3, 20), (0, 150, 1), (2, 0, 45)], &[(1, 23, 1)]];
        let width = wanted.qkv_width();
        let inputs = rows.map(|rows| random.normals(rows.iter().map(|row| row.2).sum::<usize>() * width));
        let wanted: Vec<_> = rows
            .iter()
            .zip(&inputs)
            .map(|(rows, qkv)| {
                let step = wanted.step(rows, &[]);
                wanted.rotate_and_store(&step, qkv, style, false, false)
            })
            .collect();
        for (isa, in_place, as_one) in isas()
            .into_iter()
            .flat_map(|isa| [(true, true), (false, true), (true, false)].map(|(a, b)| (isa, a, b)))
        {
            let mut bench = Bench::kept(KvDType::Q16, isa, 2, heads, 16);
            for ((rows, qkv), wanted) in rows.iter().zip(&inputs).zip(&wanted) {
                let step = bench.step(rows, &[]);
                let got = bench.rotate_and_store(&step, qkv, style, in_place, as_one);
                assert!(
                    got == *wanted,
                    "{isa} heads {heads:?} rows {rows:?} in place {in_place} as one {as_one}"
                );
            }
        }
    }
}

impl Bench {
    /// One sequence in chunks of the given sizes; the last size repeats. Each token's row of the output.
    fn attend_in_chunks(&mut self, qkv: &[f32], chunks: &[usize], window: usize) -> Vec<f32> {
        let width = self.qkv_width();
        let tokens = qkv.len() / width;
        let (mut out, mut start) = (Vec::new(), 0);
        for i in 0.. {
            let len = chunks[i.min(chunks.len() - 1)].min(tokens - start);
            if len == 0 {
                break;
            }
            let step = self.step(&[(1, start, len)], &[]);
            out.extend(self.attend(&step, &qkv[start * width..][..len * width], 1, Some(window as u32)));
            start += len;
        }
        out
    }
}

#[test]
fn blocks_left_of_a_window_may_be_gone() {
    let mut random = Random(15);
    let heads = (6, 2, 16);
    let tokens = 400;
    for (window, block_size) in [(1, 16), (16, 16), (24, 16), (100, 48), (257, 32), (1000, 16)] {
        let mut reference = Bench::new(Box::new(ReferenceBackend::new(1)), heads, block_size);
        let width = reference.qkv_width();
        let qkv = shorts(&mut random, tokens * width);
        let wanted = reference.attend_in_chunks(&qkv, &[tokens], window);
        assert!(wanted.iter().all(|x| x.is_finite()));
        reference.nulls_left_of = window;
        assert_eq!(bits(&reference.attend_in_chunks(&qkv, &[300, 37, 1], window)), bits(&wanted));
        for (isa, kv) in isas_and_types() {
            let mut whole = Bench::kept(kv, isa, 1, heads, block_size);
            let whole = whole.attend_in_chunks(&qkv, &[tokens], window);
            close(&whole, &wanted, tolerance(kv), &format!("{isa} {kv:?} window {window}"));
            for (threads, chunks) in [(1, [1, 1]), (2, [255, 2]), (3, [300, 64]), (2, [17, 7])] {
                let mut bench = Bench::kept(kv, isa, threads, heads, block_size);
                bench.nulls_left_of = window;
                let found = bench.attend_in_chunks(&qkv, &chunks, window);
                assert_eq!(bits(&found), bits(&whole), "{isa} {kv:?} window {window}, chunks {chunks:?}");
            }
        }
    }
}

#[test]
fn attention_over_numbers_that_are_none_ends_and_spoils_no_other_sequence() {
    let heads = (3, 1, 16);
    let mut random = Random(13);
    for (isa, kv) in isas_and_types() {
        let mut bench = Bench::kept(kv, isa, 2, heads, 16);
        let width = bench.qkv_width();
        let clean = random.normals(20 * width);
        let bad: Vec<f32> =
            (0..20 * width).map(|i| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][i % 4]).collect();
        let step = bench.step(&[(0, 0, 20)], &[]);
        let wanted = bench.attend(&step, &clean, 0, None);
        let step = bench.step(&[(1, 0, 20), (0, 0, 20)], &[]);
        let got = bench.attend(&step, &[bad, clean].concat(), 0, None);
        assert_eq!(bits(&got[20 * 48..]), bits(&wanted), "{isa} {kv:?}");
    }
}

fn vector(values: &[f32]) -> Tensor<'static> {
    let cols = values.len();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { name: "vector", dtype: DType::F32, rows: 1, cols, bytes: bytes.leak() }
}

/// Ops over rows: op, weights, widths of inputs, outputs (in place of which input, or beyond them: apart).
type RowOp = (Op, Vec<Tensor<'static>>, Vec<usize>, Vec<(usize, usize)>);

fn row_ops(random: &mut Random, width: usize) -> Vec<RowOp> {
    let label = || String::from("rows");
    let rope = |style, frequencies| Op::Rope {
        label: label(),
        x: 0,
        num_heads: 2,
        head_dim: 24,
        dims: 16,
        theta: 10000.0,
        style,
        frequencies,
        out: 1,
    };
    let weight = vector(&random.normals(width));
    let norm = || Op::RmsNorm { label: label(), x: 0, weight: label(), eps: 1e-5, out: 1 };
    let add_norm =
        || Op::AddRmsNorm { label: label(), x: 0, residual: 1, weight: label(), eps: 1e-5, sum: 2, out: 3 };
    let add = || Op::Add { label: label(), x: 0, y: 1, out: 2 };
    let factors = vector(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    vec![
        (norm(), vec![weight], vec![width], vec![(9, width)]),
        (add_norm(), vec![weight], vec![width, width], vec![(9, width), (9, width)]),
        (add_norm(), vec![weight], vec![width, width], vec![(1, width), (0, width)]),
        (add_norm(), vec![weight], vec![width, width], vec![(0, width), (1, width)]),
        (add(), vec![], vec![width, width], vec![(9, width)]),
        (add(), vec![], vec![width, width], vec![(0, width)]),
        (add(), vec![], vec![width, width], vec![(1, width)]),
        (rope(RopeStyle::Halves, None), vec![], vec![50], vec![(9, 50)]),
        (rope(RopeStyle::Interleaved, None), vec![], vec![50], vec![(0, 50)]),
        (rope(RopeStyle::Interleaved, Some(label())), vec![factors], vec![50], vec![(9, 50)]),
        (Op::SiluMul { label: label(), x: 0, out: 1 }, vec![], vec![2 * width], vec![(9, width)]),
        (
            Op::Embed { label: label(), weight: label(), out: 0 },
            vec![vocabulary(random, width)],
            vec![],
            vec![(9, width)],
        ),
    ]
}

fn vocabulary(random: &mut Random, width: usize) -> Tensor<'static> {
    Tensor { rows: MOST_TOKENS, cols: width, ..vector(&random.normals(MOST_TOKENS * width)) }
}

#[test]
fn row_ops_agree_with_the_reference_and_with_themselves_row_by_row() {
    let mut random = Random(14);
    for width in [1, 8, 37, 576] {
        for (op, weights, inputs, outputs) in row_ops(&mut random, width) {
            let tokens = 40;
            let values: Vec<Vec<f32>> = inputs
                .iter()
                .map(|w| random.normals(tokens * w).into_iter().map(|x| x * 8.0).collect())
                .collect();
            let run = |bench: &mut Bench, first: usize, len: usize| {
                // Positions are those of the whole; each token is a sequence's next.
                let mut step = bench.step(&[(0, first, len)], &[]);
                step.tokens = (first..first + len).map(|t| t as i32).collect();
                let inputs: Vec<(&[f32], usize, Rows)> = values
                    .iter()
                    .zip(&inputs)
                    .map(|(v, &w)| (&v[first * w..(first + len) * w], w, Rows::Tokens))
                    .collect();
                let outputs: Vec<(usize, usize, Rows)> =
                    outputs.iter().map(|&(place, w)| (place, w, Rows::Tokens)).collect();
                bench.op(&op, &weights, &step, &inputs, &outputs)
            };
            let heads = (2, 1, 16);
            let wanted = run(&mut Bench::new(Box::new(ReferenceBackend::new(1)), heads, 16), 0, tokens);
            let portable = run(&mut Bench::cpu("portable", 1, heads, 16), 0, tokens);
            for isa in isas() {
                let mut bench = Bench::cpu(isa, 3, heads, 16);
                let got = run(&mut bench, 0, tokens);
                for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                    close(got, wanted, 2e-6, &format!("{} width {width} output {i} {isa}", op.name()));
                    assert_eq!(bits(got), bits(&portable[i]), "{} {isa}", op.name());
                }
                for t in 0..5 {
                    for (one, got) in run(&mut bench, t, 1).iter().zip(&got) {
                        assert_eq!(
                            bits(one),
                            bits(&got[t * one.len()..][..one.len()]),
                            "{} {isa}",
                            op.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_what_can() {
    let backend = CpuBackend::new("auto", 1).expect("auto");
    let (label, group, layer) = (String::from("a"), 0, 0);
    for head_dim in [0, 4, 60, 264] {
        let op = Op::StoreKv {
            label: label.clone(),
            qkv: 0,
            group,
            layer,
            num_heads: 1,
            num_kv_heads: 1,
            head_dim,
        };
        let failure = backend.supports(&op, &[]).expect_err("refused");
        assert!(failure.message.contains("multiples of 8 to 256"), "{failure}");
    }
    assert!(
        CpuBackend::new("sse9", 1)
            .err()
            .expect("refused")
            .message
            .contains("auto, avx512, avx2, neon, portable")
    );
    assert!(CpuBackend::new("auto", 0).is_err());
    let mut backend = backend;
    let failure = backend.use_kv_dtype("f64").expect_err("refused");
    assert!(failure.message.contains("auto, q16, f16, bf16, q8"), "{failure}");
}
