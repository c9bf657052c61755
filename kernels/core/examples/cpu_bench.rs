//! Times the cpu backend on a model of the default model's shape, or of a layer or two of Llama-3.2-1B's, with random weights: whole
//! steps, and where their time goes by op. For tuning kernels; rates to be reported come from `kvengine bench engine`.
//!
//! `cargo run --release --example cpu_bench -- [isa=auto] [threads=2] [shape=135M] [layers=N] [dtype=Q4_1] [rounds=3] [only=NAME]
//! [clock=processor]`
//!
//! With `clock=processor` and one thread, what else the machine does counts little.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use half::f16;
use kvengine_core::arena::{Arena, GroupKind, KvGroup};
use kvengine_core::backend::cpu::CpuBackend;
use kvengine_core::backend::{Backend, Instruction, Launch, Operand, Tensor};
use kvengine_core::dtype::DType;
use kvengine_core::op::{Op, RopeStyle, Rows};
use kvengine_core::seats::{Seat, SeatParams, Seats};
use kvengine_core::step::{Limits, PICK, Step, VERSION};

/// A model's.
#[derive(Clone, Copy)]
struct Shape {
    layers: u32,
    hidden: usize,
    inner: usize,
    heads: u32,
    kv_heads: u32,
    vocabulary: usize,
    head: DType,
}

/// SmolLM2-135M's, and Llama-3.2-1B's with two of its 16 layers.
const SHAPES: [(&str, Shape); 2] = [
    (
        "135M",
        Shape {
            layers: 30,
            hidden: 576,
            inner: 1536,
            heads: 9,
            kv_heads: 3,
            vocabulary: 49152,
            head: DType::Q8_0,
        },
    ),
    (
        "1B",
        Shape {
            layers: 2,
            hidden: 2048,
            inner: 8192,
            heads: 32,
            kv_heads: 8,
            vocabulary: 128_256,
            head: DType::Q6_K,
        },
    ),
];

const HEAD_DIM: u32 = 64;
const BLOCK_SIZE: usize = 16;
const MOST_TOKENS: usize = 512;
const MOST_ROWS: usize = 32;
const MODEL_LEN: usize = 4096;

/// Random numbers, the same in each run (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Random quantised rows with small scales; floats for the others.
fn tensor(
    random: &mut Random,
    name: &'static str,
    dtype: DType,
    rows: usize,
    cols: usize,
) -> Tensor<'static> {
    let mut bytes = vec![0_u8; rows * dtype.row_bytes(cols)];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    let small = f16::from_f32(0.002).to_le_bytes();
    let minimum = f16::from_f32(-0.015).to_le_bytes();
    for block in bytes.chunks_mut(dtype.block_bytes()) {
        match dtype {
            DType::F32 => block.copy_from_slice(&1.0_f32.to_le_bytes()),
            DType::F16 => {
                block.copy_from_slice(&f16::from_f32((block[0] as f32 - 127.5) * 3e-4).to_le_bytes());
            }
            DType::BF16 => {
                block.copy_from_slice(&half::bf16::from_f32((block[0] as f32 - 127.5) * 3e-4).to_le_bytes());
            }
            DType::Q6_K => block[208..].copy_from_slice(&f16::from_f32(1e-5).to_le_bytes()),
            DType::Q8_0 => block[..2].copy_from_slice(&f16::from_f32(2e-4).to_le_bytes()),
            DType::Q4_K | DType::Q5_K => {
                block[..2].copy_from_slice(&f16::from_f32(6e-5).to_le_bytes());
                block[2..4].copy_from_slice(&f16::from_f32(4e-4).to_le_bytes());
            }
            _ => {
                block[..2].copy_from_slice(&small);
                if matches!(dtype, DType::Q4_1 | DType::Q5_1) {
                    block[2..4].copy_from_slice(&minimum);
                }
            }
        }
    }
    Tensor { name, dtype, rows, cols, bytes: bytes.leak() }
}

struct Model {
    shape: Shape,
    dtype: DType,
    limits: Limits,
    backend: CpuBackend,
    tape: Vec<Instruction>,
    arena: Arena,
    activations: kvengine_core::backend::BufferId,
    weight_bytes: usize,
}

fn model(isa: &str, threads: usize, shape: Shape, dtype: DType) -> Model {
    let Shape { layers, hidden, inner, heads, kv_heads, vocabulary, head } = shape;
    let mut backend = CpuBackend::new(isa, threads).unwrap();
    let mut random = Random(88);
    let mut offset = 0;
    let mut value = |rows: Rows, width: usize| {
        let operand = Operand { offset, width, rows };
        offset += MOST_TOKENS.max(MOST_ROWS) * width * 4;
        operand
    };
    let x = value(Rows::Tokens, hidden);
    let normed = value(Rows::Tokens, hidden);
    let qkv = value(Rows::Tokens, ((heads + 2 * kv_heads) * HEAD_DIM) as usize);
    let attended = value(Rows::Tokens, hidden);
    let branch = value(Rows::Tokens, hidden);
    let gate_up = value(Rows::Tokens, 2 * inner);
    let gated = value(Rows::Tokens, inner);
    let last = Operand { rows: Rows::Samples, ..value(Rows::Tokens, hidden) };
    offset = offset.next_multiple_of(64);
    let logits = Operand { offset, width: vocabulary, rows: Rows::Samples };
    offset += MOST_ROWS * vocabulary * 4;

    let mut tape = Vec::new();
    let mut push = |op: Op, inputs: &[Operand], outputs: &[Operand], weights: &[Tensor<'static>]| {
        let prepared = backend.prepare(&op, weights).unwrap();
        tape.push(Instruction { op, inputs: inputs.to_vec(), outputs: outputs.to_vec(), prepared });
    };
    let label = |name: &str| name.to_owned();
    // Values have numbers only where ops can be done together.
    let linear = |name: &str, count: usize, [x, out]: [u32; 2]| Op::Linear {
        label: label(name),
        x,
        weights: vec![String::new(); count],
        biases: vec![],
        out,
    };
    let table = tensor(&mut random, "table", head, vocabulary, hidden);
    let norm = tensor(&mut random, "norm", DType::F32, 1, hidden);
    push(Op::Embed { label: label("embed"), weight: String::new(), out: 0 }, &[], &[x], &[table]);
    for layer in 0..layers {
        let mut weight = |rows: usize, cols: usize| tensor(&mut random, "w", dtype, rows, cols);
        if layer == 0 {
            let op = Op::RmsNorm { label: label("norm"), x: 0, weight: String::new(), eps: 1e-5, out: 0 };
            push(op, &[x], &[normed], &[norm]);
        }
        let kv_width = (kv_heads * HEAD_DIM) as usize;
        let (q, k, v) = (weight(hidden, hidden), weight(kv_width, hidden), weight(kv_width, hidden));
        push(linear("linear qkv", 3, [0, 0]), &[normed], &[qkv], &[q, k, v]);
        let rope = Op::Rope {
            label: label("rope"),
            x: 0,
            num_heads: heads + kv_heads,
            head_dim: HEAD_DIM,
            dims: HEAD_DIM,
            theta: 1e5,
            style: RopeStyle::Interleaved,
            frequencies: None,
            out: 0,
        };
        push(rope, &[qkv], &[qkv], &[]);
        let (group, num_heads, num_kv_heads, head_dim) = (0, heads, kv_heads, HEAD_DIM);
        let store =
            Op::StoreKv { label: label("storeKv"), qkv: 0, group, layer, num_heads, num_kv_heads, head_dim };
        push(store, &[qkv], &[], &[]);
        let attention = Op::Attention {
            label: label("attention"),
            qkv: 0,
            group,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
            scale: 0.125,
            window: None,
            soft_cap: None,
            out: 0,
        };
        push(attention, &[qkv], &[attended], &[]);
        push(linear("linear o", 1, [0, 0]), &[attended], &[branch], &[weight(hidden, hidden)]);
        let add = || Op::AddRmsNorm {
            label: label("addRmsNorm"),
            x: 0,
            residual: 0,
            weight: String::new(),
            eps: 1e-5,
            sum: 0,
            out: 0,
        };
        push(add(), &[branch, x], &[x, normed], &[norm]);
        let (gate, up) = (weight(inner, hidden), weight(inner, hidden));
        let [wide, inner_id] = [2 * layer + 1, 2 * layer + 2];
        push(linear("linear gate up", 2, [0, wide]), &[normed], &[gate_up], &[gate, up]);
        push(Op::SiluMul { label: label("siluMul"), x: wide, out: inner_id }, &[gate_up], &[gated], &[]);
        push(linear("linear down", 1, [inner_id, 0]), &[gated], &[branch], &[weight(hidden, inner)]);
        push(add(), &[branch, x], &[x, normed], &[norm]);
    }
    push(Op::GatherSamples { label: label("gather"), x: 0, out: 0 }, &[normed], &[last], &[]);
    push(linear("linear head", 1, [0, 0]), &[last], &[logits], &[table]);
    push(Op::Sample { label: label("sample"), logits: 0 }, &[logits], &[], &[]);

    let limits = limits(shape);
    let groups = limits.groups.clone();
    let page_bytes = backend.page_bytes(&groups, BLOCK_SIZE).unwrap();
    let arena = Arena {
        pages: backend.alloc_pages(page_bytes, limits.num_blocks).unwrap(),
        block_size: BLOCK_SIZE,
        element_bytes: backend.kv_element_bytes(),
        groups,
    };
    let activations = backend.alloc(offset).unwrap();
    backend.start(&tape, activations, &arena, &limits).unwrap();
    let weight_bytes = backend.prepared_bytes();
    Model { shape, dtype, limits, backend, tape, arena, activations, weight_bytes }
}

/// `rows` sequences of `tokens` tokens each after `start` tokens of context.
fn step(limits: &Limits, [rows, tokens, start]: [usize; 3]) -> Step {
    let blocks_each = (start + tokens).div_ceil(BLOCK_SIZE);
    let mut words =
        vec![VERSION, 0, (rows * tokens) as i32, rows as i32, 1, rows as i32, (rows * blocks_each) as i32, 0];
    words.extend((0..rows * tokens).map(|t| (t * 7919 % limits.vocab_size) as i32));
    words.extend(0..rows as i32);
    words.extend((0..=rows).map(|r| (r * tokens) as i32));
    words.extend(vec![start as i32; rows]);
    words.extend((0..rows).map(|r| ((r + 1) * tokens - 1) as i32));
    words.extend(vec![PICK; rows]);
    words.extend((0..=rows).map(|r| (r * blocks_each) as i32));
    // As a growing pool hands them out: neighbours in time, not in sequence.
    words.extend((0..rows).flat_map(|r| (0..blocks_each).map(move |b| (1 + b * rows + r) as i32)));
    Step::parse(&words, limits).unwrap()
}

fn limits(shape: Shape) -> Limits {
    let group = KvGroup {
        layers: shape.layers,
        num_kv_heads: shape.kv_heads,
        head_dim: HEAD_DIM,
        kind: GroupKind::Full,
        window: 0,
    };
    Limits {
        max_tokens: MOST_TOKENS,
        max_rows: MOST_ROWS,
        max_samples: MOST_ROWS,
        max_model_len: MODEL_LEN,
        block_size: BLOCK_SIZE,
        groups: vec![group],
        num_blocks: 1 + MOST_ROWS * 1024 / BLOCK_SIZE,
        vocab_size: shape.vocabulary,
    }
}

/// A clock: of the wall, or of this process's time on processors.
#[derive(Clone, Copy)]
struct Clock {
    processor: bool,
    began: Instant,
}

impl Clock {
    #[expect(unsafe_code, reason = "asks the system")]
    fn now(self) -> Duration {
        if !self.processor {
            return self.began.elapsed();
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

fn run(
    model: &mut Model,
    step: &Step,
    seats: &mut Seats,
    clock: Clock,
    times: &mut BTreeMap<String, Duration>,
) {
    let mut sampled = Vec::new();
    let mut left = &model.tape[..];
    while !left.is_empty() {
        let (now, after) = left.split_at(model.backend.together(left));
        left = after;
        let begin = clock.now();
        let mut launch = Launch {
            step,
            activations: model.activations,
            arena: &model.arena,
            seats,
            sampled: &mut sampled,
        };
        model.backend.run(now, &mut launch).unwrap();
        let labels: Vec<&str> = now.iter().map(|instruction| instruction.op.label()).collect();
        *times.entry(labels.join(" + ")).or_default() += clock.now().saturating_sub(begin);
    }
}

fn measure(model: &mut Model, name: &str, steps: &[Step], rounds: usize, clock: Clock) {
    let tokens: usize = steps.iter().map(|s| s.tokens.len()).sum();
    let mut best: Option<(Duration, BTreeMap<String, Duration>)> = None;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let mut seats = Seats::new(MOST_ROWS);
        for seat in 0..MOST_ROWS {
            seats.open(seat, Seat::new(SeatParams::default(), &[]));
        }
        let mut times = BTreeMap::new();
        let begin = clock.now();
        for step in steps {
            run(model, step, &mut seats, clock, &mut times);
        }
        let time = clock.now().saturating_sub(begin);
        rates.push(tokens as f64 / time.as_secs_f64());
        if best.as_ref().is_none_or(|(t, _)| time < *t) {
            best = Some((time, times));
        }
    }
    let (time, times) = best.unwrap();
    rates.sort_by(f64::total_cmp);
    let each = time.as_secs_f64() * 1e3 / steps.len() as f64;
    println!(
        "\n{name}: {:.0} tokens/s best, {:.0} median, {each:.3} ms a step",
        rates[rounds - 1],
        rates[rounds / 2]
    );
    let Shape { layers, hidden, inner, heads, kv_heads, vocabulary, .. } = model.shape;
    let layer = f64::from(layers);
    for (label, t) in &times {
        let macs = match label.as_str() {
            "linear qkv" => layer * (hidden * ((heads + 2 * kv_heads) * HEAD_DIM) as usize) as f64,
            "linear o" => layer * (hidden * hidden) as f64,
            "linear gate up + siluMul + linear down" => layer * (hidden * 3 * inner) as f64,
            "linear head" => (hidden * vocabulary) as f64,
            _ => 0.0,
        };
        let rows: usize =
            steps.iter().map(|s| if label == "linear head" { s.samples.len() } else { s.tokens.len() }).sum();
        let seconds = t.as_secs_f64();
        let share = 100.0 * seconds / time.as_secs_f64();
        print!("  {label:15} {:9.3} ms {share:5.1} %", seconds * 1e3 / steps.len() as f64);
        if macs > 0.0 {
            print!("  {:6.1} GMAC/s", macs * rows as f64 / seconds / 1e9);
            let of = if label == "linear head" { model.shape.head } else { model.dtype };
            let bytes = of.block_bytes() as f64 / of.block_len() as f64;
            print!("  {:5.1} GB/s", macs * bytes * steps.len() as f64 / seconds / 1e9);
        }
        println!();
    }
}

fn main() {
    let args: BTreeMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    let get = |name: &str, default: &str| args.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let name = get("dtype", "Q4_1");
    let dtype = DType::ALL.into_iter().find(|d| format!("{d:?}") == name).unwrap();
    let rounds = get("rounds", "3").parse().unwrap();
    let begin = Instant::now();
    let mut shape = SHAPES.into_iter().find(|(of, _)| *of == get("shape", "135M")).unwrap().1;
    shape.layers = args.get("layers").map_or(shape.layers, |layers| layers.parse().unwrap());
    let mut model = model(&get("isa", "auto"), get("threads", "2").parse().unwrap(), shape, dtype);
    println!(
        "{} {name}: {:.1} MB of weights, ready in {:.2} s",
        model.backend.name(),
        model.weight_bytes as f64 / 1e6,
        begin.elapsed().as_secs_f64()
    );
    let only = get("only", "");
    let clock = Clock { processor: get("clock", "wall") == "processor", began: begin };
    let limits = model.limits.clone();
    let decode = |rows: usize, start: usize, count: usize| -> Vec<Step> {
        (0..count).map(|i| step(&limits, [rows, 1, start + i])).collect()
    };
    let cases: [(&str, Vec<Step>); 6] = [
        ("prompt 512", vec![step(&limits, [1, 512, 0])]),
        ("prompt 64", vec![step(&limits, [1, 64, 0])]),
        ("1 sequence from 0", decode(1, 0, 128)),
        ("1 sequence from 2048", decode(1, 2048, 32)),
        ("8 sequences from 128", decode(8, 128, 16)),
        ("32 sequences from 128", decode(32, 128, 8)),
    ];
    for (name, steps) in &cases {
        if name.contains(&only) {
            measure(&mut model, name, steps, rounds, clock);
        }
    }
}
