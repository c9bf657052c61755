//! What tests share: seeded numbers, weights, steps, and a tiny model.

use crate::arena::{GroupKind, KvGroup};
use crate::backend::Tensor;
use crate::dtype::DType;
use crate::op::{Op, RopeStyle, Rows, ValueInfo};
use crate::program::ProgramSpec;
use crate::seats::SeatParams;
use crate::step::{Limits, PICK, Step, VERSION};
use crate::weights::TensorSource;
use half::{bf16, f16};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `SplitMix64` (Steele, Lea and Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Mean 0, deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let uniform = |x: u64| (x >> 11) as f64 / (1_u64 << 53) as f64;
        (0..12).map(|_| uniform(self.next())).sum::<f64>() as f32 - 6.0
    }

    pub(crate) fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }

    /// Encoded elements, about `scale` large.
    pub(crate) fn weights(&mut self, dtype: DType, len: usize, scale: f32) -> Vec<u8> {
        let half = |x: f32| f16::from_f32(x).to_le_bytes();
        match dtype {
            DType::F32 => self.normals(len).iter().flat_map(|x| (x * scale).to_le_bytes()).collect(),
            DType::F16 => self.normals(len).iter().flat_map(|x| half(x * scale)).collect(),
            DType::BF16 => {
                self.normals(len).iter().flat_map(|x| bf16::from_f32(x * scale).to_le_bytes()).collect()
            }
            _ => {
                let mut bytes: Vec<u8> = (0..dtype.row_bytes(len)).map(|_| self.next() as u8).collect();
                // The largest quant times the largest sub-scale of the type.
                let (scales, largest, centre): (&[usize], f32, f32) = match dtype {
                    DType::Q4_0 => (&[0], 8.0, 0.0),
                    DType::Q4_1 => (&[0, 2], 8.0, 7.5),
                    DType::Q5_0 => (&[0], 16.0, 0.0),
                    DType::Q5_1 => (&[0, 2], 16.0, 15.5),
                    DType::Q8_0 => (&[0], 128.0, 0.0),
                    DType::Q4_K => (&[0, 2], 8.0 * 63.0, -7.5),
                    DType::Q5_K => (&[0, 2], 16.0 * 63.0, -15.5),
                    _ => (&[208], 32.0 * 128.0, 0.0),
                };
                for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                    let d = scale / largest * (1.0 + 0.3 * self.normal());
                    for (i, &at) in scales.iter().enumerate() {
                        block[at..at + 2].copy_from_slice(&half(if i == 0 { d } else { -d * centre }));
                    }
                }
                bytes
            }
        }
    }

    /// A tensor that is never freed.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        rows: usize,
        cols: usize,
        scale: f32,
    ) -> Tensor<'static> {
        Tensor {
            name: name.to_owned().leak(),
            dtype,
            rows,
            cols,
            bytes: self.weights(dtype, rows * cols, scale).leak(),
        }
    }
}

/// Sequences of a step: (seat, first position, tokens). Tables take
/// block `1 + seat * blocks_per_seat + i`, shuffled inside the seat.
pub(crate) struct StepWords<'a> {
    pub(crate) id: i32,
    pub(crate) rows: Vec<(usize, usize, &'a [i32])>,
    pub(crate) samples: Vec<usize>,
    pub(crate) block_size: usize,
    pub(crate) blocks_per_seat: usize,
    /// Of each group: entries that are left of this window of the row are null; 0 = no window.
    pub(crate) windows: Vec<usize>,
    /// One for each sample.
    pub(crate) targets: Vec<i32>,
    /// From, to, from, to and so on.
    pub(crate) copies: Vec<i32>,
}

impl StepWords<'_> {
    pub(crate) fn words(&self) -> Vec<i32> {
        let tokens: Vec<i32> = self.rows.iter().flat_map(|row| row.2.iter().copied()).collect();
        let mut first = vec![0];
        for row in &self.rows {
            first.push(first[first.len() - 1] + row.2.len() as i32);
        }
        // Without a common divisor every entry has a block of its own.
        let stride = [7, 5].into_iter().find(|&n| !self.blocks_per_seat.is_multiple_of(n)).unwrap_or(1);
        let (mut starts, mut blocks) = (vec![0], Vec::new());
        for (group, window) in self.windows.iter().enumerate() {
            for (seat, start, tokens) in &self.rows {
                let seen_from = if *window == 0 { 0 } else { (start + 1).saturating_sub(*window) };
                for i in 0..(start + tokens.len()).div_ceil(self.block_size) {
                    let place = (i * stride + 3) % self.blocks_per_seat;
                    let block = 1 + (seat * self.windows.len() + group) * self.blocks_per_seat + place;
                    blocks.push(if (i + 1) * self.block_size <= seen_from { 0 } else { block as i32 });
                }
                starts.push(blocks.len() as i32);
            }
        }
        let header = [
            VERSION,
            self.id,
            tokens.len() as i32,
            self.rows.len() as i32,
            self.windows.len() as i32,
            self.samples.len() as i32,
            blocks.len() as i32,
            self.copies.len() as i32 / 2,
        ];
        let seats = self.rows.iter().map(|row| row.0 as i32);
        let start_positions = self.rows.iter().map(|row| row.1 as i32);
        let samples = self.samples.iter().map(|&s| s as i32);
        header
            .into_iter()
            .chain(tokens)
            .chain(seats)
            .chain(first)
            .chain(start_positions)
            .chain(samples)
            .chain(self.targets.iter().copied())
            .chain(starts)
            .chain(blocks)
            .chain(self.copies.iter().copied())
            .collect()
    }

    pub(crate) fn parse(&self, limits: &Limits) -> Step {
        Step::parse(&self.words(), limits).unwrap()
    }
}

/// Whether tests use a CUDA device, real or emulated: only where `KVENGINE_TEST_CUDA` is set, as `npm run test:cuda` and
/// `tests/gpu/run.sh` do.
pub(crate) fn has_cuda() -> bool {
    std::env::var_os("KVENGINE_TEST_CUDA").is_some_and(|value| !value.is_empty())
}

/// Backends that run tapes and can be tested here.
pub(crate) fn computing() -> Vec<&'static str> {
    if has_cuda() { vec!["cpu", "reference", "cuda"] } else { vec!["cpu", "reference"] }
}

/// Greedy, without an end.
pub(crate) fn greedy() -> SeatParams {
    SeatParams::default()
}

/// Picks at the last tokens of rows, reports on token 0 elsewhere.
pub(crate) fn targets(rows: &[(usize, usize, &[i32])], samples: &[usize]) -> Vec<i32> {
    let mut ends = Vec::new();
    for row in rows {
        ends.push(ends.last().copied().unwrap_or(0) + row.2.len());
    }
    samples.iter().map(|sample| if ends.contains(&(sample + 1)) { PICK } else { 0 }).collect()
}

pub(crate) const VOCABULARY: u32 = 96;
const HIDDEN: u32 = 64;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u32 = 16;
const INNER: u32 = 96;
const LAYERS: u32 = 2;
pub(crate) const BLOCK_SIZE: usize = 16;
pub(crate) const MAX_LEN: usize = 96;
pub(crate) const BLOCKS_PER_SEAT: usize = MAX_LEN / BLOCK_SIZE;

/// A seeded two-layer model of the llama kind in a file that goes when this does. Rows of 64 suit types with blocks of 32.
pub(crate) struct TinyModel {
    pub(crate) spec: ProgramSpec,
    path: PathBuf,
}

impl Drop for TinyModel {
    fn drop(&mut self) {
        // Only a file in the temporary folder is lost.
        let _gone = std::fs::remove_file(&self.path);
    }
}

struct Recorder {
    random: Random,
    dtype: DType,
    data: Vec<u8>,
    tensors: Vec<TensorSource>,
    values: Vec<ValueInfo>,
    ops: Vec<Op>,
}

impl Recorder {
    fn weight(&mut self, name: &str, dtype: DType, rows: u32, cols: u32) -> String {
        let bytes = if dtype == DType::F32 && rows == 1 {
            (0..cols).flat_map(|_| (1.0 + 0.1 * self.random.normal()).to_le_bytes()).collect()
        } else {
            self.random.weights(dtype, (rows * cols) as usize, 1.5 / (cols as f32).sqrt())
        };
        self.tensors.push(TensorSource {
            name: name.into(),
            dtype,
            rows,
            cols,
            file: 0,
            offset: self.data.len() as i64,
            bytes: bytes.len() as i64,
        });
        self.data.extend(bytes);
        name.into()
    }

    fn value(&mut self, rows: Rows, width: u32) -> u32 {
        self.values.push(ValueInfo { rows, width });
        self.values.len() as u32 - 1
    }

    fn linear(&mut self, label: &str, x: u32, weights: &[(&str, u32)]) -> u32 {
        let ValueInfo { rows, width } = self.values[x as usize];
        let out = self.value(rows, weights.iter().map(|w| w.1).sum());
        let weights = weights
            .iter()
            .map(|(name, rows)| self.weight(&format!("{label}.{name}"), self.dtype, *rows, width))
            .collect();
        self.ops.push(Op::Linear { label: label.into(), x, weights, biases: vec![], out });
        out
    }

    fn add_norm(&mut self, label: &str, x: u32, residual: u32) -> (u32, u32) {
        let (sum, out) = (self.value(Rows::Tokens, HIDDEN), self.value(Rows::Tokens, HIDDEN));
        let weight = self.weight(&format!("{label}.norm"), DType::F32, 1, HIDDEN);
        self.ops.push(Op::AddRmsNorm { label: label.into(), x, residual, weight, eps: 1e-5, sum, out });
        (sum, out)
    }

    fn layer(&mut self, layer: u32, hidden: u32, normed: u32) -> (u32, u32) {
        let label = format!("layers.{layer}.attention");
        let (num_heads, num_kv_heads, head_dim) = (HEADS, KV_HEADS, HEAD_DIM);
        let qkv = self.linear(
            &label,
            normed,
            &[("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)],
        );
        let rotated = self.value(Rows::Tokens, (HEADS + 2 * KV_HEADS) * HEAD_DIM);
        let attended = self.value(Rows::Tokens, HEADS * HEAD_DIM);
        self.ops.push(Op::Rope {
            label: label.clone(),
            x: qkv,
            num_heads: HEADS + KV_HEADS,
            head_dim,
            dims: HEAD_DIM,
            theta: 10_000.0,
            style: RopeStyle::Interleaved,
            frequencies: None,
            out: rotated,
        });
        let place = (label.clone(), rotated);
        self.ops.push(Op::StoreKv {
            label: place.0,
            qkv: place.1,
            group: 0,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
        });
        self.ops.push(Op::Attention {
            label: label.clone(),
            qkv: rotated,
            group: 0,
            layer,
            num_heads,
            num_kv_heads,
            head_dim,
            scale: 0.25,
            window: None,
            soft_cap: None,
            out: attended,
        });
        let output = self.linear(&format!("{label}.output"), attended, &[("o", HIDDEN)]);
        let label = format!("layers.{layer}.mlp");
        let (hidden, normed) = self.add_norm(&label, output, hidden);
        let gates = self.linear(&format!("{label}.gates"), normed, &[("gate", INNER), ("up", INNER)]);
        let inner = self.value(Rows::Tokens, INNER);
        self.ops.push(Op::SiluMul { label: label.clone(), x: gates, out: inner });
        let output = self.linear(&format!("{label}.down"), inner, &[("down", HIDDEN)]);
        self.add_norm(&format!("{label}.next"), output, hidden)
    }
}

impl TinyModel {
    pub(crate) fn new(backend: &str, dtype: DType) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut tape =
            Recorder { random: Random(5), dtype, data: vec![], tensors: vec![], values: vec![], ops: vec![] };
        let mut hidden = tape.value(Rows::Tokens, HIDDEN);
        let weight = tape.weight("embed", DType::F16, VOCABULARY, HIDDEN);
        tape.ops.push(Op::Embed { label: "embed".into(), weight, out: hidden });
        let mut normed = tape.value(Rows::Tokens, HIDDEN);
        let weight = tape.weight("first.norm", DType::F32, 1, HIDDEN);
        tape.ops.push(Op::RmsNorm { label: "first".into(), x: hidden, weight, eps: 1e-5, out: normed });
        for layer in 0..LAYERS {
            (hidden, normed) = tape.layer(layer, hidden, normed);
        }
        let gathered = tape.value(Rows::Samples, HIDDEN);
        tape.ops.push(Op::GatherSamples { label: "head".into(), x: normed, out: gathered });
        let logits = tape.linear("head", gathered, &[("output", VOCABULARY)]);
        tape.ops.push(Op::Sample { label: "sample".into(), logits });

        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kvengine-tiny-{}-{number}", std::process::id()));
        std::fs::write(&path, &tape.data).unwrap();
        let spec = ProgramSpec {
            backend: backend.into(),
            isa: "auto".into(),
            threads: 1,
            values: tape.values,
            ops: tape.ops,
            files: vec![path.to_str().unwrap().into()],
            tensors: tape.tensors,
            groups: vec![full_group(LAYERS, KV_HEADS, HEAD_DIM)],
            kv_cache_dtype: None,
            block_size: BLOCK_SIZE as u32,
            num_blocks: (1 + 4 * BLOCKS_PER_SEAT) as u32,
            max_tokens: 128,
            max_rows: 4,
            max_samples: 4,
            max_model_len: MAX_LEN as u32,
            vocab_size: VOCABULARY,
        };
        Self { spec, path }
    }
}

/// A group that looks back on all positions.
pub(crate) const fn full_group(layers: u32, num_kv_heads: u32, head_dim: u32) -> KvGroup {
    KvGroup { layers, num_kv_heads, head_dim, kind: GroupKind::Full, window: 0 }
}

/// What steps of the tiny model are checked against.
pub(crate) fn limits() -> Limits {
    Limits {
        max_tokens: 128,
        max_rows: 4,
        max_samples: 4,
        max_model_len: MAX_LEN,
        block_size: BLOCK_SIZE,
        groups: vec![full_group(LAYERS, KV_HEADS, HEAD_DIM)],
        num_blocks: 1 + 4 * BLOCKS_PER_SEAT,
        vocab_size: VOCABULARY as usize,
    }
}

/// A step of the tiny model.
pub(crate) fn step_words<'a>(
    id: i32,
    rows: &[(usize, usize, &'a [i32])],
    samples: &[usize],
) -> StepWords<'a> {
    StepWords {
        id,
        rows: rows.to_vec(),
        samples: samples.to_vec(),
        block_size: BLOCK_SIZE,
        blocks_per_seat: BLOCKS_PER_SEAT,
        windows: vec![0],
        targets: targets(rows, samples),
        copies: vec![],
    }
}
