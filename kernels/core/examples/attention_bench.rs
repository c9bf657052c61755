//! Times attention of the cpu backend alone, on the default model's shape with KV that no cache holds.
//!
//! `cargo run --release --example attention_bench -- [isa=auto] [kv=auto] [threads=2] [rounds=9] [only=NAME] [pad=0] [hot=1]`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::collections::BTreeMap;
use std::time::Instant;

use kvengine_core::arena::{Arena, GroupKind, KvGroup};
use kvengine_core::backend::cpu::CpuBackend;
use kvengine_core::backend::{Backend, BufferId, Instruction, Launch, Operand};
use kvengine_core::op::{Op, Rows};
use kvengine_core::seats::Seats;
use kvengine_core::step::{Limits, PICK, Step, VERSION};

const LAYERS: u32 = 30;
const HEADS: u32 = 9;
const KV_HEADS: u32 = 3;
const HEAD_DIM: u32 = 64;
const BLOCK_SIZE: usize = 16;
const MOST_TOKENS: usize = 512;
const MOST_ROWS: usize = 32;
const MODEL_LEN: usize = 4096;
/// Tokens that each sequence has blocks of its own for; behind them it has the first ones again.
const OWN_LEN: usize = 2048;
const NUM_BLOCKS: usize = 1 + MOST_ROWS * OWN_LEN / BLOCK_SIZE;

fn groups() -> Vec<KvGroup> {
    let (layers, num_kv_heads, head_dim, kind) = (LAYERS, KV_HEADS, HEAD_DIM, GroupKind::Full);
    vec![KvGroup { layers, num_kv_heads, head_dim, kind, window: 0 }]
}

/// `rows` sequences from the `first` one of [`MOST_ROWS`], each of `tokens` tokens after `start` tokens of context.
fn step(first: usize, rows: usize, tokens: usize, start: usize) -> Step {
    let blocks_each = (start + tokens).div_ceil(BLOCK_SIZE);
    let (all, n) = (rows * tokens, rows as i32);
    let mut words = vec![VERSION, 0, all as i32, n, 1, n, (rows * blocks_each) as i32, 0];
    words.extend(vec![0; all]);
    words.extend(0..n);
    words.extend((0..=rows).map(|r| (r * tokens) as i32));
    words.extend(vec![start as i32; rows]);
    words.extend((0..rows).map(|r| ((r + 1) * tokens - 1) as i32));
    words.extend(vec![PICK; rows]);
    words.extend((0..=rows).map(|r| (r * blocks_each) as i32));
    // As a growing pool hands them out: neighbours in time, not in sequence.
    let block = |r: usize, b: usize| 1 + b % (OWN_LEN / BLOCK_SIZE) * MOST_ROWS + (first + r) % MOST_ROWS;
    words.extend((0..rows).flat_map(|r| (0..blocks_each).map(move |b| block(r, b) as i32)));
    let limits = Limits {
        max_tokens: MOST_TOKENS,
        max_rows: MOST_ROWS,
        max_samples: MOST_ROWS,
        max_model_len: MODEL_LEN,
        block_size: BLOCK_SIZE,
        groups: groups(),
        num_blocks: NUM_BLOCKS,
        vocab_size: 1,
    };
    Step::parse(&words, &limits).unwrap()
}

struct Bench {
    backend: CpuBackend,
    arena: Arena,
    activations: BufferId,
    /// The same layer and sequences again and again, so that caches hold them.
    hot: bool,
}

impl Bench {
    /// Milliseconds of all layers, and of processor time spent on them.
    fn run(&mut self, step: &Step) -> [f64; 2] {
        let width = ((HEADS + 2 * KV_HEADS) * HEAD_DIM) as usize;
        let (begin, processor) = (Instant::now(), processor_time());
        for layer in 0..LAYERS {
            let op = Op::Attention {
                label: String::new(),
                qkv: 0,
                group: 0,
                layer: if self.hot { 0 } else { layer },
                num_heads: HEADS,
                num_kv_heads: KV_HEADS,
                head_dim: HEAD_DIM,
                scale: 0.125,
                window: None,
                soft_cap: None,
                out: 0,
            };
            let prepared = self.backend.prepare(&op, &[]).unwrap();
            let instruction = Instruction {
                op,
                inputs: vec![Operand { offset: 0, width, rows: Rows::Tokens }],
                outputs: vec![Operand {
                    offset: MOST_TOKENS * width * 4,
                    width: (HEADS * HEAD_DIM) as usize,
                    rows: Rows::Tokens,
                }],
                prepared,
            };
            let mut launch = Launch {
                step,
                activations: self.activations,
                arena: &self.arena,
                seats: &mut Seats::new(MOST_ROWS),
                sampled: &mut Vec::new(),
            };
            self.backend.launch(&instruction, &mut launch).unwrap();
        }
        [begin.elapsed().as_secs_f64() * 1e3, processor_time() - processor]
    }
}

/// Milliseconds that this process has had: others on the machine do not lengthen them.
#[expect(unsafe_code, reason = "asks the system")]
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

#[expect(unsafe_code, reason = "fills pages")]
fn main() {
    let args: BTreeMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    let get = |name: &str, default: &str| args.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let mut backend = CpuBackend::new(&get("isa", "auto"), get("threads", "2").parse().unwrap()).unwrap();
    backend.use_kv_dtype(&get("kv", "auto")).unwrap();
    let page_bytes =
        backend.page_bytes(&groups(), BLOCK_SIZE).unwrap() + get("pad", "0").parse::<usize>().unwrap();
    let pages = backend.alloc_pages(page_bytes, NUM_BLOCKS).unwrap();
    let mut random = 88_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    // Numbers between -2 and 2 as halves, and as small or smaller as bfloat16.
    let noise: Vec<u8> = (0..page_bytes / 2).flat_map(|_| (next() as u16 & 0xbfff).to_le_bytes()).collect();
    for page in 0..NUM_BLOCKS {
        // SAFETY: nobody else has the pages yet.
        unsafe { pages.page_mut(page) }.copy_from_slice(&noise);
    }
    let activations = backend.alloc(MOST_TOKENS * (960 + 576) * 4).unwrap();
    let floats: Vec<u8> =
        (0..MOST_TOKENS * 960).flat_map(|_| (next() as i32 as f32 * 1e-9).to_le_bytes()).collect();
    backend.upload(activations, 0, &floats).unwrap();
    let arena = Arena { pages, block_size: BLOCK_SIZE, element_bytes: 2, groups: groups() };
    let mut bench = Bench { backend, arena, activations, hot: args.contains_key("hot") };
    let rounds: usize = get("rounds", "9").parse().unwrap();
    let only = get("only", "");
    for (name, rows, tokens, start) in [
        ("decode 1 x 2047", 1, 1, 2047),
        ("decode 1 x 4095", 1, 1, 4095),
        ("decode 1 x 511", 1, 1, 511),
        ("decode 1 x 127", 1, 1, 127),
        ("decode 4 x 1600", 4, 1, 1600),
        ("decode 8 x 1600", 8, 1, 1600),
        ("decode 16 x 1700", 16, 1, 1700),
        ("decode 24 x 1750", 24, 1, 1750),
        ("decode 32 x 512", 32, 1, 512),
        ("decode 32 x 160", 32, 1, 160),
        ("decode 8 x 200", 8, 1, 200),
        ("prompt 512", 1, 512, 0),
        ("prompt 512 after 1024", 1, 512, 1024),
        ("prompt 448 after 1600", 1, 448, 1600),
    ] {
        if !name.contains(&only) {
            continue;
        }
        let mut times: [Vec<f64>; 2] = Default::default();
        for round in 0..rounds {
            let first = if bench.hot { 0 } else { round * rows };
            let both = bench.run(&step(first, rows, tokens, start));
            for (times, time) in times.iter_mut().zip(both) {
                times.push(time);
            }
        }
        for times in &mut times {
            times.sort_by(f64::total_cmp);
        }
        let layers = f64::from(LAYERS);
        let seen = rows as f64 * f64::midpoint((2 * start) as f64, (tokens + 1) as f64) * layers;
        let flops = seen * tokens as f64 * f64::from(4 * HEADS * HEAD_DIM);
        let bytes = rows as f64 * (start + tokens) as f64 * layers * f64::from(4 * KV_HEADS * HEAD_DIM);
        let (best, median, processor) = (times[0][0], times[0][rounds / 2], times[1][0]);
        println!(
            "{name:22} best {best:8.3} ms, median {median:8.3}, processor {processor:8.3}: at best {:6.1} GB/s, \
             {:6.1} Gop/s, {:6.1} of processor time",
            bytes / best / 1e6,
            flops / best / 1e6,
            flops / processor / 1e6,
        );
    }
}
