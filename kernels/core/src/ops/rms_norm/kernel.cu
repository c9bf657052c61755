// `out = x / sqrt(mean(x^2) + eps) * weight`, alone and after a residual addition. A block takes a row: each thread sums the
// squares of every ROW_THREADS-th column, then lanes, then warps, so the order follows from the width alone.
// The forms that quantize write beside `out` what `quantize_f32` would make of it; their widths are multiples of 32, so that a warp
// has a block at a time. Grid (rows), ROW_THREADS.
#include "../../cuda/activations.cuh"
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

namespace kv::rms_norm {

// The factor of a row from the threads' sums of squares.
__device__ __forceinline__ float row_scale(float squares, int width, float eps) {
  __shared__ float warps[ROW_THREADS / 32];
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = squares;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int warp = 0; warp < ROW_THREADS / 32; warp++) sum += warps[warp];
  return 1.0f / sqrtf(sum / float(width) + eps);
}

// Where 8-bit activations go; none where nothing is quantised.
struct Numbers {
  i8* numbers;
  float *scales, *sums;
};

// A normalised row, `x` times the scale and the weight.
template <bool QUANTIZE>
__device__ __forceinline__ void write_row(float* out, const float* x, const float* __restrict__ weight, float scale,
                                          int width, const Numbers& to) {
  for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
    const float value = x[i] * scale * weight[i];
    out[i] = value;
    if constexpr (QUANTIZE)
      quantize_warp(value, (i64(blockIdx.x) * width + i) / 32, to.numbers, to.scales, to.sums);
  }
}

template <bool QUANTIZE>
__device__ __forceinline__ void norm(float* out, const float* x, const float* weight, int width, float eps,
                                     const Numbers& to) {
  x += i64(blockIdx.x) * width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += ROW_THREADS) squares = fmaf(x[i], x[i], squares);
  write_row<QUANTIZE>(out + i64(blockIdx.x) * width, x, weight, row_scale(squares, width, eps), width, to);
}

// `sum` may be `x` or `residual`: a thread reads and writes its own columns only.
template <bool QUANTIZE>
__device__ __forceinline__ void add_norm(float* sum, float* out, const float* x, const float* residual,
                                         const float* weight, int width, float eps, const Numbers& to) {
  const i64 row = i64(blockIdx.x) * width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
    const float added = x[row + i] + residual[row + i];
    sum[row + i] = added;
    squares = fmaf(added, added, squares);
  }
  write_row<QUANTIZE>(out + row, sum + row, weight, row_scale(squares, width, eps), width, to);
}

}  // namespace kv::rms_norm

extern "C" __global__ void __launch_bounds__(kv::ROW_THREADS)
    rms_norm_f32(float* out, const float* x, const float* weight, int width, float eps) {
  kv::rms_norm::norm<false>(out, x, weight, width, eps, {});
}
KV_KERNEL(rms_norm_f32)

extern "C" __global__ void __launch_bounds__(kv::ROW_THREADS)
    add_rms_norm_f32(float* sum, float* out, const float* x, const float* residual, const float* weight, int width,
                     float eps) {
  kv::rms_norm::add_norm<false>(sum, out, x, residual, weight, width, eps, {});
}
KV_KERNEL(add_rms_norm_f32)

extern "C" __global__ void __launch_bounds__(kv::ROW_THREADS)
    rms_norm_quantize_f32(float* out, kv::i8* numbers, float* scales, float* sums, const float* x, const float* weight,
                          int width, float eps) {
  kv::rms_norm::norm<true>(out, x, weight, width, eps, {numbers, scales, sums});
}
KV_KERNEL(rms_norm_quantize_f32)

extern "C" __global__ void __launch_bounds__(kv::ROW_THREADS)
    add_rms_norm_quantize_f32(float* sum, float* out, kv::i8* numbers, float* scales, float* sums, const float* x,
                              const float* residual, const float* weight, int width, float eps) {
  kv::rms_norm::add_norm<true>(sum, out, x, residual, weight, width, eps, {numbers, scales, sums});
}
KV_KERNEL(add_rms_norm_quantize_f32)
