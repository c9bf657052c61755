//! Token ids to rows of the embedding matrix.

use crate::backend::Tensor;
use crate::dequant::dequantize;

/// `out[t] = weight[tokens[t]]`; `out` is `[tokens, weight.cols]`. Token ids are below `weight.rows`.
pub fn reference(tokens: &[i32], weight: &Tensor<'_>, out: &mut [f32]) {
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(weight.cols)) {
        dequantize(weight.dtype, weight.row(*token as usize), out);
    }
}
