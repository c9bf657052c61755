//! The checks of a tape: each value is written once and before it is read, row counts and widths fit the op's contract,
//! weights have the right shape. What passes here, no kernel has to check in a step.

use crate::arena::{GroupKind, KvGroup};
use crate::backend::Tensor;
use crate::dtype::DType;
use crate::error::{Failure, Result};
use crate::op::{Op, Rows, ValueId, ValueInfo};

/// What a tape is checked against.
pub struct Shapes<'a> {
    /// Declared values.
    pub values: &'a [ValueInfo],
    /// KV groups.
    pub groups: &'a [KvGroup],
    /// Columns of the logits; token ids are below it.
    pub vocab_size: usize,
}

/// One op under check; its label and name stand before every message.
struct Check<'a> {
    shapes: &'a Shapes<'a>,
    op: &'a Op,
    weights: &'a [Tensor<'a>],
}

/// Adds the place in the model to a message.
pub fn at(op: &Op, what: impl std::fmt::Display) -> String {
    format!("{}: {}: {what}", op.label(), op.name())
}

impl Shapes<'_> {
    /// Checks one op and the shapes of its weights (in the order of [`Op::weights`]).
    ///
    /// # Errors
    /// `bad_model`, with the op's label, what it has and what it needs.
    pub fn check(&self, op: &Op, weights: &[Tensor<'_>]) -> Result<()> {
        Check { shapes: self, op, weights }.run()
    }

    /// Checks the order of the tape: values written once and before they are read, and one `sample`, last.
    ///
    /// # Errors
    /// `bad_model`, with the op's label.
    pub fn check_order(&self, ops: &[Op]) -> Result<()> {
        let mut written = vec![false; self.values.len()];
        for (i, op) in ops.iter().enumerate() {
            let bad = |what: String| Failure::bad_model(at(op, what));
            for id in op.inputs() {
                match written.get(id as usize) {
                    None => return Err(bad(format!("value {id} is not declared"))),
                    Some(false) => return Err(bad(format!("reads value {id} before it is written"))),
                    Some(true) => {}
                }
            }
            for id in op.outputs() {
                match written.get_mut(id as usize) {
                    None => return Err(bad(format!("value {id} is not declared"))),
                    Some(true) => return Err(bad(format!("writes value {id} a second time"))),
                    Some(state) => *state = true,
                }
            }
            if matches!(op, Op::Sample { .. }) != (i + 1 == ops.len()) {
                return Err(bad("sample must be the last op, and only the last".into()));
            }
        }
        if ops.is_empty() {
            return Err(Failure::bad_model("the tape is empty"));
        }
        Ok(())
    }
}

impl Check<'_> {
    fn run(&self) -> Result<()> {
        match self.op {
            Op::Embed { out, .. } => {
                self.rows(*out, Rows::Tokens)?;
                self.matrix(0, self.shapes.vocab_size, self.width(*out)?)
            }
            Op::RmsNorm { x, eps, out, .. } => {
                self.same(*x, *out)?;
                self.eps(*eps)?;
                self.vector(0, self.width(*x)?)
            }
            Op::AddRmsNorm { x, residual, eps, sum, out, .. } => {
                self.same(*x, *residual)?;
                self.same(*x, *sum)?;
                self.same(*x, *out)?;
                self.eps(*eps)?;
                self.vector(0, self.width(*x)?)
            }
            Op::Add { x, y, out, .. } => {
                self.same(*x, *y)?;
                self.same(*x, *out)
            }
            Op::Linear { x, weights, biases, out, .. } => self.linear(*x, weights.len(), biases.len(), *out),
            Op::Rope { x, num_heads, head_dim, dims, theta, frequencies, out, .. } => {
                self.same(*x, *out)?;
                self.rows(*x, Rows::Tokens)?;
                self.need(*num_heads > 0 && *head_dim > 0, || "needs at least one head and column".into())?;
                self.need(*dims > 0 && dims.is_multiple_of(2) && dims <= head_dim, || {
                    format!("rotates {dims} columns, it must be even and at most headDim {head_dim}")
                })?;
                self.need(*theta > 0.0 && theta.is_finite(), || {
                    format!("theta is {theta}, it must be above 0")
                })?;
                let (needed, width) = (*num_heads as usize * *head_dim as usize, self.width(*x)?);
                self.need(needed <= width, || {
                    format!("{num_heads} heads of {head_dim} exceed width {width}")
                })?;
                if frequencies.is_some() { self.vector(0, *dims as usize / 2) } else { Ok(()) }
            }
            Op::StoreKv { qkv, group, layer, num_heads, num_kv_heads, head_dim, .. } => {
                self.kv(*qkv, *group, *layer, *num_heads, *num_kv_heads, *head_dim)
            }
            Op::Attention {
                qkv,
                group,
                layer,
                num_heads,
                num_kv_heads,
                head_dim,
                scale,
                window,
                soft_cap,
                out,
                ..
            } => {
                self.kv(*qkv, *group, *layer, *num_heads, *num_kv_heads, *head_dim)?;
                self.rows(*out, Rows::Tokens)?;
                let (width, needed) = (self.width(*out)?, *num_heads as usize * *head_dim as usize);
                self.need(width == needed, || format!("output is {width} wide, needs {needed}"))?;
                self.need(scale.is_finite(), || format!("scale is {scale}, it must be finite"))?;
                self.need(*window != Some(0), || "window is 0, it must be at least 1".into())?;
                let cap = soft_cap.unwrap_or(1.0);
                self.need(cap > 0.0 && cap.is_finite(), || {
                    format!("softCap is {cap}, it must be above 0 and finite")
                })?;
                let kept = &self.shapes.groups[*group as usize];
                self.need(kept.kind != GroupKind::Window || window.is_some_and(|w| w <= kept.window), || {
                    let seen = window.map_or("all".into(), |w| w.to_string());
                    format!("sees {seen} positions, group {group} keeps {}", kept.window)
                })
            }
            Op::SiluMul { x, out, .. } => {
                self.need(self.row_kind(*x)? == self.row_kind(*out)?, || {
                    "rows of input and output differ".into()
                })?;
                let (x, out) = (self.width(*x)?, self.width(*out)?);
                self.need(x == 2 * out, || format!("input is {x} wide, needs twice the output's {out}"))
            }
            Op::GatherSamples { x, out, .. } => {
                self.rows(*x, Rows::Tokens)?;
                self.rows(*out, Rows::Samples)?;
                let (x, out) = (self.width(*x)?, self.width(*out)?);
                self.need(x == out, || format!("input is {x} wide, output {out}"))
            }
            Op::Sample { logits, .. } => {
                self.rows(*logits, Rows::Samples)?;
                let (width, vocabulary) = (self.width(*logits)?, self.shapes.vocab_size);
                self.need(width == vocabulary, || {
                    format!("logits are {width} wide, the vocabulary {vocabulary}")
                })
            }
        }
    }

    fn need(&self, holds: bool, what: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { Err(Failure::bad_model(at(self.op, what()))) }
    }

    fn value(&self, id: ValueId) -> Result<&ValueInfo> {
        self.shapes
            .values
            .get(id as usize)
            .ok_or_else(|| Failure::bad_model(at(self.op, format!("value {id} is not declared"))))
    }

    fn width(&self, id: ValueId) -> Result<usize> {
        self.value(id).map(|value| value.width as usize)
    }

    fn row_kind(&self, id: ValueId) -> Result<Rows> {
        self.value(id).map(|value| value.rows)
    }

    fn rows(&self, id: ValueId, rows: Rows) -> Result<()> {
        let found = self.row_kind(id)?;
        self.need(found == rows, || format!("value {id} is over {found:?}, needs {rows:?}"))
    }

    fn same(&self, a: ValueId, b: ValueId) -> Result<()> {
        let (x, y) = (self.value(a)?, self.value(b)?);
        self.need(x == y, || {
            format!("value {a} is [{:?}, {}], value {b} [{:?}, {}]", x.rows, x.width, y.rows, y.width)
        })
    }

    fn eps(&self, eps: f64) -> Result<()> {
        self.need(eps >= 0.0 && eps.is_finite(), || format!("eps is {eps}, it must be at least 0"))
    }

    fn matrix(&self, i: usize, rows: usize, cols: usize) -> Result<()> {
        let tensor = &self.weights[i];
        self.need(tensor.rows == rows && tensor.cols == cols, || {
            format!("weight {} is [{}, {}], needs [{rows}, {cols}]", tensor.name, tensor.rows, tensor.cols)
        })
    }

    fn vector(&self, i: usize, len: usize) -> Result<()> {
        self.matrix(i, 1, len)?;
        let tensor = &self.weights[i];
        self.need(tensor.dtype == DType::F32, || {
            format!("weight {} is {:?}, needs F32", tensor.name, tensor.dtype)
        })
    }

    fn linear(&self, x: ValueId, num_weights: usize, num_biases: usize, out: ValueId) -> Result<()> {
        self.need(self.row_kind(x)? == self.row_kind(out)?, || "rows of input and output differ".into())?;
        self.need(num_weights > 0, || "has no weight".into())?;
        self.need(num_biases == 0 || num_biases == num_weights, || {
            format!("has {num_weights} weights and {num_biases} biases")
        })?;
        let cols = self.width(x)?;
        let mut width = 0;
        for i in 0..num_weights {
            let rows = self.weights[i].rows;
            self.matrix(i, rows, cols)?;
            if num_biases > 0 {
                self.vector(num_weights + i, rows)?;
            }
            width += rows;
        }
        let out = self.width(out)?;
        self.need(width == out, || format!("weights have {width} rows in all, the output is {out} wide"))
    }

    fn kv(
        &self,
        qkv: ValueId,
        group: u32,
        layer: u32,
        num_heads: u32,
        num_kv_heads: u32,
        head_dim: u32,
    ) -> Result<()> {
        self.rows(qkv, Rows::Tokens)?;
        let groups = self.shapes.groups;
        let Some(kv) = groups.get(group as usize) else {
            return Err(Failure::bad_model(at(
                self.op,
                format!("group {group}: there are {}", groups.len()),
            )));
        };
        self.need(layer < kv.layers, || format!("layer {layer}: group {group} has {}", kv.layers))?;
        self.need(kv.num_kv_heads == num_kv_heads && kv.head_dim == head_dim, || {
            let (heads, dim) = (kv.num_kv_heads, kv.head_dim);
            format!("{num_kv_heads} KV heads of {head_dim}, group {group} has {heads} of {dim}")
        })?;
        self.need(
            num_kv_heads > 0 && num_heads > 0 && num_heads.is_multiple_of(num_kv_heads) && head_dim > 0,
            || format!("{num_heads} query heads must be a multiple of {num_kv_heads} KV heads"),
        )?;
        let needed = (num_heads as usize + 2 * num_kv_heads as usize) * head_dim as usize;
        let width = self.width(qkv)?;
        self.need(width == needed, || format!("qkv is {width} wide, needs {needed}"))
    }
}
