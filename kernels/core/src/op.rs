//! THE op set. One enum is the single source for both sides: napi-rs writes it to `binding/index.d.ts` as a union
//! discriminated by `op`, so a new variant is a compile error in each backend's `match` and known at once to TypeScript.
//!
//! Values are f32 matrices `[rows, width]`; `rows` is the number of tokens of the step or the number of sampled
//! positions. A variant's doc is its contract. `label` names the place in the model (`model.layers.3.mlp`) and stands in
//! every error and profile.

/// Index of a value of the tape.
#[cfg_attr(feature = "napi", napi_derive::napi)]
pub type ValueId = u32;

/// What a value's row count follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(string_enum = "lowercase"))]
pub enum Rows {
    /// One row a token of the step.
    Tokens,
    /// One row a sampled position of the step.
    Samples,
}

/// A value: f32, `[rows, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct ValueInfo {
    /// What the leading dimension follows.
    pub rows: Rows,
    /// Columns.
    pub width: u32,
}

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(string_enum = "lowercase"))]
pub enum RopeStyle {
    /// Elements 2i and 2i+1 (GGUF files of the llama architecture).
    Interleaved,
    /// Elements i and i + dims/2 (GPT-NeoX; Hugging Face checkpoints).
    Halves,
}

#[expect(missing_docs, reason = "the doc of a variant is the contract of its fields")]
/// One instruction. Names in `weights` are tensors of the model's checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "napi", napi_derive::napi(discriminant = "op", discriminant_case = "camelCase"))]
pub enum Op {
    /// `out[t] = weight[token[t]]`, de-quantised. `weight` is `[vocabulary, width]`; `out` is over tokens.
    Embed { label: String, weight: String, out: ValueId },
    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row. `weight` is F32 `[width]`.
    RmsNorm { label: String, x: ValueId, weight: String, eps: f64, out: ValueId },
    /// `sum = x + residual`, `out = rms_norm(sum) * weight`. `sum` may take the place of `residual`.
    AddRmsNorm {
        label: String,
        x: ValueId,
        residual: ValueId,
        weight: String,
        eps: f64,
        sum: ValueId,
        out: ValueId,
    },
    /// `out = x + y`.
    Add { label: String, x: ValueId, y: ValueId, out: ValueId },
    /// `out = concat_i(x · weights[i]ᵀ + biases[i])` along the columns: several matrices over one input are one op.
    /// Each weight is `[its width, x.width]`; `biases` is empty or has one F32 name for each weight.
    Linear { label: String, x: ValueId, weights: Vec<String>, biases: Vec<String>, out: ValueId },
    /// Rotates the first `numHeads` heads of each row by the token's position: `angle_i = position * theta^(-2i/dims) /
    /// frequencyFactor_i`. Further columns are copied. `frequencies`: optional F32 `[dims/2]` weight of factors.
    Rope {
        label: String,
        x: ValueId,
        num_heads: u32,
        head_dim: u32,
        dims: u32,
        theta: f64,
        style: RopeStyle,
        frequencies: Option<String>,
        out: ValueId,
    },
    /// Writes K and V of each token to its KV slot. `qkv` columns: `numHeads` query heads, then `numKvHeads` key heads,
    /// then as many value heads, `headDim` wide each. `layer` counts inside `group`.
    StoreKv {
        label: String,
        qkv: ValueId,
        group: u32,
        layer: u32,
        num_heads: u32,
        num_kv_heads: u32,
        head_dim: u32,
    },
    /// Causal attention of each token's query heads over the KV slots of its sequence up to and with its own position,
    /// through the block table: `softmax(scale * q·k) · v`. With `window` w only the last w positions are seen; with
    /// `softCap` c a score s becomes `c * tanh(s / c)`. Reads what [`Op::StoreKv`] wrote before it on the tape. `out` is
    /// `[tokens, numHeads * headDim]`.
    Attention {
        label: String,
        qkv: ValueId,
        group: u32,
        layer: u32,
        num_heads: u32,
        num_kv_heads: u32,
        head_dim: u32,
        scale: f64,
        window: Option<u32>,
        soft_cap: Option<f64>,
        out: ValueId,
    },
    /// `out = silu(x[:, :w]) * x[:, w:]` with `w = x.width / 2`.
    SiluMul { label: String, x: ValueId, out: ValueId },
    /// Keeps the rows of sampled positions: tokens → samples.
    GatherSamples { label: String, x: ValueId, out: ValueId },
    /// Picks a token for each sampled position with its seat's parameters (see `seats.rs`). The last op of a tape.
    Sample { label: String, logits: ValueId },
}

impl Op {
    /// The place in the model this op belongs to.
    pub fn label(&self) -> &str {
        match self {
            Self::Embed { label, .. }
            | Self::RmsNorm { label, .. }
            | Self::AddRmsNorm { label, .. }
            | Self::Add { label, .. }
            | Self::Linear { label, .. }
            | Self::Rope { label, .. }
            | Self::StoreKv { label, .. }
            | Self::Attention { label, .. }
            | Self::SiluMul { label, .. }
            | Self::GatherSamples { label, .. }
            | Self::Sample { label, .. } => label,
        }
    }

    /// The op's name as TypeScript spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::RmsNorm { .. } => "rmsNorm",
            Self::AddRmsNorm { .. } => "addRmsNorm",
            Self::Add { .. } => "add",
            Self::Linear { .. } => "linear",
            Self::Rope { .. } => "rope",
            Self::StoreKv { .. } => "storeKv",
            Self::Attention { .. } => "attention",
            Self::SiluMul { .. } => "siluMul",
            Self::GatherSamples { .. } => "gatherSamples",
            Self::Sample { .. } => "sample",
        }
    }

    /// Values read, in the order of the fields.
    pub fn inputs(&self) -> Vec<ValueId> {
        match self {
            Self::Embed { .. } => vec![],
            Self::RmsNorm { x, .. }
            | Self::Linear { x, .. }
            | Self::Rope { x, .. }
            | Self::SiluMul { x, .. }
            | Self::GatherSamples { x, .. } => vec![*x],
            Self::AddRmsNorm { x, residual, .. } => vec![*x, *residual],
            Self::Add { x, y, .. } => vec![*x, *y],
            Self::StoreKv { qkv, .. } | Self::Attention { qkv, .. } => vec![*qkv],
            Self::Sample { logits, .. } => vec![*logits],
        }
    }

    /// Values written, in the order of the fields.
    pub fn outputs(&self) -> Vec<ValueId> {
        match self {
            Self::Embed { out, .. }
            | Self::RmsNorm { out, .. }
            | Self::Add { out, .. }
            | Self::Linear { out, .. }
            | Self::Rope { out, .. }
            | Self::Attention { out, .. }
            | Self::SiluMul { out, .. }
            | Self::GatherSamples { out, .. } => vec![*out],
            Self::AddRmsNorm { sum, out, .. } => vec![*sum, *out],
            Self::StoreKv { .. } | Self::Sample { .. } => vec![],
        }
    }

    /// Checkpoint tensors read, in the order of the fields (a linear's weights, then its biases).
    pub fn weights(&self) -> Vec<&str> {
        match self {
            Self::Embed { weight, .. } | Self::RmsNorm { weight, .. } | Self::AddRmsNorm { weight, .. } => {
                vec![weight]
            }
            Self::Linear { weights, biases, .. } => {
                weights.iter().chain(biases).map(String::as_str).collect()
            }
            Self::Rope { frequencies, .. } => frequencies.iter().map(String::as_str).collect(),
            _ => vec![],
        }
    }
}
