//! Matrices over one input.

pub(crate) mod blocks;
pub mod cpu;

use crate::backend::Tensor;
use crate::dequant::dequantize;

/// `out[:, j] = x · weight[j]ᵀ + bias[j]` for one weight; `x` is `[rows, weight.cols]`. `columns` receives the product
/// transposed, `[weight.rows, rows]`, so that threads share nothing they write.
pub fn reference(x: &[f32], weight: &Tensor<'_>, bias: Option<&[f32]>, threads: usize, columns: &mut [f32]) {
    let rows = x.len() / weight.cols;
    let share = weight.rows.div_ceil(threads.max(1));
    std::thread::scope(|scope| {
        for (part, columns) in columns.chunks_mut(share * rows).enumerate() {
            scope.spawn(move || {
                let mut weights = vec![0.0; weight.cols];
                for (j, column) in columns.chunks_exact_mut(rows).enumerate() {
                    let j = part * share + j;
                    dequantize(weight.dtype, weight.row(j), &mut weights);
                    let bias = bias.map_or(0.0, |bias| bias[j]);
                    for (x, out) in x.chunks_exact(weight.cols).zip(column) {
                        *out = dot(x, &weights) + bias;
                    }
                }
            });
        }
    });
}

/// Inner product: sixteen f32 partial sums, element `i` into sum `i % 16`, then those in ascending order in f64.
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (x_lanes, x_rest) = x.as_chunks::<LANES>();
    let (y_lanes, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_lanes.iter().zip(y_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += x * y;
    }
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
}
