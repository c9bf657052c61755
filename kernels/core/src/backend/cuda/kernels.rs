//! THE list of CUDA kernels: names, parameters in order, grids. The `.cu` sources follow it, the host launches by it, and the
//! emulator compares it with the PTX. A kernel is `extern "C"` and takes pointers, 32-bit ints and floats, in this order:
//! what it writes, what it reads, weights, arrays of the step, numbers.
//!
//! Values are f32 matrices, row after row without padding. `rows` is the grid's, so kernels of one row a block need no row
//! count. Pointers to weights and to rows of values are aligned to 16 bytes where a row's bytes are a multiple of 16; every
//! allocation starts at a multiple of 256.
//!
//! # Weights
//! Blocks of 32 columns as `ops/linear/blocks.rs` has them, in planes, each `[panel of 32 rows][block][row of the panel]`:
//! neighbouring lanes have neighbouring rows. The last panel is filled up with zeros.
//!
//! ```text
//! numbers   4 bit: 16 bytes a block; byte 4i+j = column 8i+j (low nibble) and column 8i+4+j (high nibble), i and j in 0..4
//!           8 bit: 32 signed bytes a block, in the order of the columns
//! scales    one a block (two for q6_k: columns 0..16, then 16..32), f16 or f32
//! minima    one a block, f16 or f32, for formats that have one; else a null pointer
//! value = scale * (number - zero) + minimum, with zero = 8 for q4_0, else 0
//! ```
//!
//! ```text
//! format  of GGUF types   number  scales and minima
//! q4_0    Q4_0            4 bit   f16 scale
//! q4_1    Q4_1            4 bit   f16 scale, f16 minimum
//! q8_0    Q8_0, Q5_0      8 bit   f16 scale
//! q5_1    Q5_1            8 bit   f16 scale, f16 minimum
//! q4_k    Q4_K            4 bit   f32 scale, f32 minimum
//! q5_k    Q5_K            8 bit   f32 scale, f32 minimum
//! q6_k    Q6_K            8 bit   two f32 scales
//! ```
//!
//! `f32`, `f16` and `bf16` are `[row][column]` as in the file, given as `numbers`.
//!
//! # KV
//! A page is `[layer of the group][K|V][head][block_size][head_dim]` of f16. `kv` points to page 0, a page has `page_bytes`,
//! the layer's keys begin `layer_offset` bytes into it and its values `num_kv_heads * block_size * head_dim * 2` bytes
//! further. Multiply block ids by `page_bytes` in 64 bits.
//!
//! # Arrays of the step
//! All i32, at places that stay the same from step to step (graphs keep the addresses):
//!
//! ```text
//! tokens[N]  positions[N]  samples[S]       as in `step.rs`
//! slots[N]      of one group: block * block_size + place in the block; -1 = a row of padding, written nowhere
//! blocks[B]     block ids of all tables
//! tiles[T][4]   of one group: first token, number of tokens (0 = padding: nothing to do), position of the first, index
//!               in `blocks` of its sequence's table. A tile's tokens follow each other in one sequence;
//!               tokens * (num_heads / num_kv_heads) is at most TILE_ROWS, unless it is one token.
//! ```

use std::sync::Arc;

/// A parameter; all of them are passed by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Device address, 8 bytes.
    Pointer(&'static str),
    /// i32.
    Int(&'static str),
    /// f32.
    Float(&'static str),
}

use Parameter::{Float, Int, Pointer};

/// Kernels that differ in a part of the name only.
#[derive(Debug)]
pub struct Family {
    /// `{}` stands for the variant.
    pub name: &'static str,
    /// Variants; one empty one where there is no `{}`.
    pub variants: &'static [&'static str],
    /// In order, in parts that several families have.
    parameters: &'static [&'static [Parameter]],
}

impl Family {
    /// All of them, in order.
    fn parameters(&self) -> Arc<[Parameter]> {
        self.parameters.concat().into()
    }
}

/// Threads of a block of a row-wise kernel: norms, quantize.
pub const ROW_THREADS: u32 = 256;
/// Threads of a block of a kernel that takes elements one by one.
pub const ELEMENT_THREADS: u32 = 256;
/// Threads of a linear's block.
pub const LINEAR_THREADS: u32 = 128;
/// Columns of the output (rows of the weight) that a linear's block computes.
pub const LINEAR_COLUMNS: u32 = 32;
/// Rows of the input that a linear's block computes.
pub const LINEAR_ROWS: u32 = 8;
/// As the two above, of `linear_many`, which has the same bits and is meant for [`LINEAR_MANY_FROM`] rows and more.
pub const LINEAR_MANY_COLUMNS: u32 = 64;
/// See [`LINEAR_MANY_COLUMNS`].
pub const LINEAR_MANY_ROWS: u32 = 64;
/// Rows from which on `linear_many` is the faster one.
pub const LINEAR_MANY_FROM: u32 = 24;
/// Rows of a panel of weights.
pub const PANEL: u32 = 32;
/// Threads of an attention block.
pub const ATTENTION_THREADS: u32 = 128;
/// Query rows (tokens times query heads of a KV head) of a tile.
pub const TILE_ROWS: u32 = 64;
/// Threads of a block that samples.
pub const SAMPLE_THREADS: u32 = 512;
/// Keys of a split, at absolute multiples of it. Splits are merged in ascending order.
pub const SPLIT: u32 = 256;

/// Quantised formats of weights.
pub const QUANTISED: &[&str] = &["q4_0", "q4_1", "q8_0", "q5_1", "q4_k", "q5_k", "q6_k"];
/// Float formats of weights.
pub const FLOATS: &[&str] = &["f32", "f16", "bf16"];
/// All formats of weights.
pub const FORMATS: &[&str] = &["q4_0", "q4_1", "q8_0", "q5_1", "q4_k", "q5_k", "q6_k", "f32", "f16", "bf16"];
/// Head sizes that attention is compiled for.
pub const HEAD_DIMS: &[&str] = &["16", "32", "40", "64", "80", "96", "128", "256"];

const ONE: &[&str] = &[""];

// Parts of the lists of parameters.
/// What `quantize_f32` writes, and a quantised linear reads: integers, scales and sums of activations.
const INTEGERS: &[Parameter] = &[Pointer("x_numbers"), Pointer("x_scales"), Pointer("x_sums")];
/// Of a norm, behind its inputs.
const NORM: &[Parameter] = &[Pointer("weight"), Int("width"), Float("eps")];
/// A matrix in planes.
const PLANES: &[Parameter] = &[Pointer("numbers"), Pointer("scales"), Pointer("minima")];
/// Sizes of a linear.
const LINEAR: &[Parameter] = &[Int("rows"), Int("cols"), Int("width"), Int("out_stride")];
/// Where a layer's keys and values lie in a page.
const PAGE: &[Parameter] = &[Int("page_bytes"), Int("layer_offset"), Int("block_size")];
const HEADS: &[Parameter] = &[Int("num_heads"), Int("num_kv_heads")];
/// Of both quantised linears.
const QUANTISED_LINEAR: &[&[Parameter]] = &[&[Pointer("out")], INTEGERS, PLANES, &[Pointer("bias")], LINEAR];
/// What attention reads.
const ATTENTION: &[Parameter] = &[Pointer("qkv"), Pointer("kv"), Pointer("tiles"), Pointer("blocks")];

/// What becomes of queries and keys.
const SCORES: &[Parameter] = &[Int("window"), Float("scale"), Float("soft_cap")];

/// Every kernel.
pub const FAMILIES: &[Family] = &[
    // `out[t] = table[tokens[t]]`. Grid (rows), ELEMENT_THREADS.
    Family {
        name: "embed_{}",
        variants: FORMATS,
        parameters: &[&[Pointer("out")], PLANES, &[Pointer("tokens"), Int("width")]],
    },
    // Grid (rows), ROW_THREADS. The sum of squares is taken in a fixed order.
    Family { name: "rms_norm_f32", variants: ONE, parameters: &[&[Pointer("out"), Pointer("x")], NORM] },
    // `sum` may be `x` or `residual`. Grid (rows), ROW_THREADS.
    Family {
        name: "add_rms_norm_f32",
        variants: ONE,
        parameters: &[&[Pointer("sum"), Pointer("out"), Pointer("x"), Pointer("residual")], NORM],
    },
    // The two norms that also write what `quantize_f32` would make of `out`; `width` is a multiple of 32. Same bits.
    Family {
        name: "rms_norm_quantize_f32",
        variants: ONE,
        parameters: &[&[Pointer("out")], INTEGERS, &[Pointer("x")], NORM],
    },
    Family {
        name: "add_rms_norm_quantize_f32",
        variants: ONE,
        parameters: &[
            &[Pointer("sum"), Pointer("out")],
            INTEGERS,
            &[Pointer("x"), Pointer("residual")],
            NORM,
        ],
    },
    // `out` may be `x` or `y`. Grid (count / ELEMENT_THREADS), ELEMENT_THREADS.
    Family {
        name: "add_f32",
        variants: ONE,
        parameters: &[&[Pointer("out"), Pointer("x"), Pointer("y"), Int("count")]],
    },
    // `out[t][i] = silu(x[t][i]) * x[t][width + i]`; `count` is rows * width. Grid (count / ELEMENT_THREADS), ELEMENT_THREADS.
    Family {
        name: "silu_mul_f32",
        variants: ONE,
        parameters: &[&[Pointer("out"), Pointer("x"), Int("width"), Int("count")]],
    },
    // The same with what `quantize_f32` would make of `out`; `width` is a multiple of 32. Same bits.
    Family {
        name: "silu_mul_quantize_f32",
        variants: ONE,
        parameters: &[&[Pointer("out")], INTEGERS, &[Pointer("x"), Int("width"), Int("count")]],
    },
    // `out[i] = x[samples[i]]`. Grid (samples), ELEMENT_THREADS.
    Family {
        name: "gather_rows_f32",
        variants: ONE,
        parameters: &[&[Pointer("out"), Pointer("x"), Pointer("samples"), Int("width")]],
    },
    // Rotates the first `num_heads` heads of a row and copies the rest; `out` may be `x`.
    // `angles` is `[position][sine | cosine][dims / 2]`. Grid (rows), ELEMENT_THREADS.
    Family {
        name: "rope_{}_f32",
        variants: &["interleaved", "halves"],
        parameters: &[
            &[Pointer("out"), Pointer("x"), Pointer("angles"), Pointer("positions")],
            &[Int("num_heads"), Int("head_dim"), Int("dims"), Int("width")],
        ],
    },
    // The two ops before and after this in one: rotates the `num_heads` query heads and the KV heads behind them, and stores.
    // Only query heads are written to `out`, which may be `x`. Grid (rows), ELEMENT_THREADS. The same bits as both.
    Family {
        name: "rope_{}_store_f16",
        variants: &["interleaved", "halves"],
        parameters: &[
            &[Pointer("out"), Pointer("kv"), Pointer("x"), Pointer("angles")],
            &[Pointer("positions"), Pointer("slots")],
            PAGE,
            HEADS,
            &[Int("head_dim"), Int("dims")],
        ],
    },
    // A row's K and V, rounded to f16, to its slot. Grid (rows), ELEMENT_THREADS.
    Family {
        name: "store_kv_f16",
        variants: ONE,
        parameters: &[&[Pointer("kv"), Pointer("qkv"), Pointer("slots")], PAGE, HEADS, &[Int("head_dim")]],
    },
    // Activations to 8 bits per block of 32 (`ops/linear/cpu/activations.rs` is the definition, tiny and non-finite blocks
    // included): `x_numbers` i8 `[row][column]`; `x_scales` and `x_sums` f32 `[row][block]`, the latter the scale times the
    // sum of the numbers. `blocks` is of all rows. Grid (blocks * 8 / ROW_THREADS), ROW_THREADS.
    Family { name: "quantize_f32", variants: ONE, parameters: &[INTEGERS, &[Pointer("x"), Int("blocks")]] },
    // `out[t][j] = x[t] · weight[j] + bias[j]`; `bias` may be null; `out` points to its first column, its rows are
    // `out_stride` apart. One f32 sum takes the blocks in ascending order:
    // `sum = fma(dot * scale, x_scale, sum)`, then `sum = fma(minimum, x_sum, sum)`.
    // Grid (width / LINEAR_COLUMNS, rows / LINEAR_ROWS), LINEAR_THREADS. A row's bits do not depend on `rows`.
    Family { name: "linear_{}", variants: QUANTISED, parameters: QUANTISED_LINEAR },
    // As above on tensor cores. Grid (width / LINEAR_MANY_COLUMNS, rows / LINEAR_MANY_ROWS), LINEAR_THREADS.
    Family { name: "linear_many_{}", variants: QUANTISED, parameters: QUANTISED_LINEAR },
    // As above with f32 activations; for f16 and bf16 they are rounded to the weight's type if tensor cores want it.
    Family {
        name: "linear_{}",
        variants: FLOATS,
        parameters: &[&[Pointer("out"), Pointer("x"), Pointer("numbers"), Pointer("bias")], LINEAR],
    },
    // Whole attention of a tile for one KV head: splits one after the other. `window` and `soft_cap` 0 = none.
    // `out` is `[token][num_heads * head_dim]`. Grid (tiles, num_kv_heads), ATTENTION_THREADS.
    // Same bits as `attention_split` and `attention_merge`.
    Family {
        name: "attention_hs{}",
        variants: HEAD_DIMS,
        parameters: &[&[Pointer("out")], ATTENTION, PAGE, HEADS, SCORES],
    },
    // One split of a tile for one KV head, to `partials[token][head][split][head_dim]` and
    // `statistics[token][head][split][maximum, sum]`; a split of which a token sees nothing is left as it is.
    // Grid (tiles, num_kv_heads, splits), ATTENTION_THREADS.
    Family {
        name: "attention_split_hs{}",
        variants: HEAD_DIMS,
        parameters: &[&[Pointer("partials"), Pointer("statistics")], ATTENTION, PAGE, HEADS, SCORES],
    },
    // Merges the splits that the token sees, in ascending order. `splits` is the stride. Grid (rows, num_heads),
    // head_dim threads rounded up to 32.
    Family {
        name: "attention_merge_hs{}",
        variants: HEAD_DIMS,
        parameters: &[
            &[Pointer("out"), Pointer("partials"), Pointer("statistics"), Pointer("positions")],
            &[Int("num_heads"), Int("window"), Int("splits")],
        ],
    },
    // What a seat does to its row before a pick. `edits` are (id i32, x, y, z f32); those of sample i lie from `starts[5i]` to
    // `starts[5i + 4]`, with three cuts between: ids that alone are allowed (none: all are), ids that are forbidden, biases x,
    // penalties (repetition x, what frequency takes away y, presence z). A row without edits is left alone.
    // Grid (samples), SAMPLE_THREADS.
    Family {
        name: "sample_adjust_f32",
        variants: ONE,
        parameters: &[&[
            Pointer("adjusted"),
            Pointer("logits"),
            Pointer("edits"),
            Pointer("starts"),
            Int("width"),
        ]],
    },
    // Picks as `ops/sample/mod.rs` does, the same tokens to the bit. `wishes` and `answers` are the structs of
    // `ops/sample/*.cuh` and `kernel.cu` (48 and 32 bytes), `tops` is `[sample][most_top]` of id u32 and logit f32. Scratch
    // of each block: `keys` u64, the power of two from `width` on; `ids` u32, `width`; `sums` f64, one for each 256 columns.
    // Grid (any number), SAMPLE_THREADS.
    Family {
        name: "sample_f32",
        variants: ONE,
        parameters: &[
            &[Pointer("answers"), Pointer("tops"), Pointer("keys"), Pointer("ids"), Pointer("sums")],
            &[Pointer("logits"), Pointer("adjusted"), Pointer("wishes")],
            &[Int("samples"), Int("width"), Int("most_top")],
        ],
    },
    // Page `pairs[2i]` of `from` to page `pairs[2i + 1]` of `to`; `from` or `to` may be pinned host memory. `page_bytes` is a
    // multiple of 64. Grid (pairs, any), ELEMENT_THREADS.
    Family {
        name: "copy_pages",
        variants: ONE,
        parameters: &[&[Pointer("to"), Pointer("from"), Pointer("pairs"), Int("page_bytes")]],
    },
];

/// Every kernel's name with its parameters.
pub fn all() -> impl Iterator<Item = (String, Arc<[Parameter]>)> {
    FAMILIES.iter().flat_map(|family| {
        let parameters = family.parameters();
        family
            .variants
            .iter()
            .map(move |variant| (family.name.replace("{}", variant), Arc::clone(&parameters)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn launch_constants_are_those_of_the_kernels() {
        let header = include_str!("../../cuda/launch.cuh");
        let constants: Vec<(&str, u32)> = header
            .lines()
            .filter_map(|line| line.strip_prefix("constexpr int ")?.strip_suffix(';')?.split_once(" = "))
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        let ours = [
            ("ROW_THREADS", ROW_THREADS),
            ("ELEMENT_THREADS", ELEMENT_THREADS),
            ("LINEAR_THREADS", LINEAR_THREADS),
            ("LINEAR_COLUMNS", LINEAR_COLUMNS),
            ("LINEAR_ROWS", LINEAR_ROWS),
            ("LINEAR_MANY_COLUMNS", LINEAR_MANY_COLUMNS),
            ("LINEAR_MANY_ROWS", LINEAR_MANY_ROWS),
            ("ATTENTION_THREADS", ATTENTION_THREADS),
            ("SAMPLE_THREADS", SAMPLE_THREADS),
            ("TILE_ROWS", TILE_ROWS),
            ("SPLIT", SPLIT),
        ];
        assert_eq!(constants, ours);
    }

    #[test]
    fn names_are_unique_and_outputs_come_first() {
        let names: Vec<String> = all().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for (name, parameters) in all() {
            assert!(matches!(parameters[0], Pointer(_)), "{name}");
            let pointers = parameters.iter().take_while(|p| matches!(p, Pointer(_))).count();
            assert!(parameters[pointers..].iter().all(|p| !matches!(p, Pointer(_))), "{name}");
        }
    }
}
