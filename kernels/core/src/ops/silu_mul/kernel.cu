// `out[t][i] = silu(x[t][i]) * x[t][width + i]`; `count` is rows * width. Grid (count / ELEMENT_THREADS), ELEMENT_THREADS.
#include "../../cuda/activations.cuh"
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

namespace kv::silu_mul {

__device__ __forceinline__ float element(const float* __restrict__ x, i64 i, int width) {
  const i64 gate = i / width * 2 * width + i % width;
  return x[gate] / (1.0f + expf(-x[gate])) * x[gate + width];
}

}  // namespace kv::silu_mul

extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    silu_mul_f32(float* __restrict__ out, const float* __restrict__ x, int width, int count) {
  const kv::i64 i = kv::i64(blockIdx.x) * kv::ELEMENT_THREADS + threadIdx.x;
  if (i < count) out[i] = kv::silu_mul::element(x, i, width);
}
KV_KERNEL(silu_mul_f32)

// Beside `out` what `quantize_f32` would make of it; `width` is a multiple of 32, so a warp has a block.
extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    silu_mul_quantize_f32(float* __restrict__ out, kv::i8* __restrict__ numbers, float* __restrict__ scales,
                          float* __restrict__ sums, const float* __restrict__ x, int width, int count) {
  const kv::i64 i = kv::i64(blockIdx.x) * kv::ELEMENT_THREADS + threadIdx.x;
  if (i >= count) return;
  const float value = kv::silu_mul::element(x, i, width);
  out[i] = value;
  kv::quantize_warp(value, i / 32, numbers, scales, sums);
}
KV_KERNEL(silu_mul_quantize_f32)
