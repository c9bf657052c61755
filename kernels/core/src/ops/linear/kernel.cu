// `out = x · Wᵀ + bias` with the numeric definition of the cpu backend (`ops/linear/cpu/mod.rs`), to the bit for quantised
// weights: activations in 8 bits per block of 32, exact integer dots, one f32 sum an output that takes the blocks in ascending
// order. So a row's bits depend on nothing but the row.
#include "../../cuda/activations.cuh"
#include "few.cuh"
#include "floats.cuh"
#include "many.cuh"

// Activations to 8 bits (`activations.cuh`); eight lanes share a block, four columns each. `blocks` is of all rows.
// Grid (blocks * 8 / ROW_THREADS), ROW_THREADS.
extern "C" __global__ void __launch_bounds__(kv::ROW_THREADS)
    quantize_f32(kv::u32* __restrict__ numbers, float* __restrict__ scales, float* __restrict__ sums,
                 const float4* __restrict__ x, int blocks) {
  constexpr int LANES = kv::BLOCK / 4;
  const int at = blockIdx.x * kv::ROW_THREADS + threadIdx.x, block = at / LANES;
  const float4 four = block < blocks ? x[at] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  kv::u32 most = max(max(kv::magnitude(four.x), kv::magnitude(four.y)), max(kv::magnitude(four.z), kv::magnitude(four.w)));
#pragma unroll
  for (int far = LANES / 2; far > 0; far /= 2) most = max(most, __shfl_xor_sync(kv::ALL_LANES, most, far));
  const kv::Rounding rounding(most);
  const auto byte = [&](float v, int place) { return (rounding.number(v) & 255) << 8 * place; };
  const int packed = byte(four.x, 0) | byte(four.y, 1) | byte(four.z, 2) | byte(four.w, 3);
  int sum = kv::dot4(packed, 0x01010101, 0);
#pragma unroll
  for (int far = LANES / 2; far > 0; far /= 2) sum += __shfl_xor_sync(kv::ALL_LANES, sum, far);
  if (block >= blocks) return;
  numbers[at] = kv::u32(packed);
  if (at % LANES == 0) {
    scales[block] = rounding.scale;
    sums[block] = rounding.scale * float(sum);
  }
}
KV_KERNEL(quantize_f32)

// Grids (width / LINEAR_COLUMNS, rows / LINEAR_ROWS) and (width / LINEAR_MANY_COLUMNS, rows / LINEAR_MANY_ROWS), LINEAR_THREADS.
#define KV_LINEAR(name, Format)                                                                                        \
  extern "C" __global__ void __launch_bounds__(kv::LINEAR_THREADS, 4)                                                  \
      linear_##name(float* out, const uint4* x_numbers, const float* x_scales, const float* x_sums, const uint4* numbers, \
                    const void* scales, const void* minima, const float* bias, int rows, int cols, int width,          \
                    int out_stride) {                                                                                  \
    const kv::linear::Weights<kv::Format> weights{numbers, scales, minima};                                            \
    kv::linear::quantised(out, x_numbers, x_scales, x_sums, weights, bias, rows, cols, width, out_stride);             \
  }                                                                                                                    \
  KV_KERNEL(linear_##name)                                                                                             \
  extern "C" __global__ void __launch_bounds__(kv::LINEAR_THREADS)                                                     \
      linear_many_##name(float* out, const uint4* x_numbers, const float* x_scales, const float* x_sums,                 \
                         const uint4* numbers, const void* scales, const void* minima, const float* bias, int rows,    \
                         int cols, int width, int out_stride) {                                                        \
    const kv::linear::Weights<kv::Format> weights{numbers, scales, minima};                                            \
    kv::linear::many(out, x_numbers, x_scales, x_sums, weights, bias, rows, cols, width, out_stride);                  \
  }                                                                                                                    \
  KV_KERNEL(linear_many_##name)
KV_LINEAR(q4_0, Q4_0)
KV_LINEAR(q4_1, Q4_1)
KV_LINEAR(q8_0, Q8_0)
KV_LINEAR(q5_1, Q5_1)
KV_LINEAR(q4_k, Q4_K)
KV_LINEAR(q5_k, Q5_K)
KV_LINEAR(q6_k, Q6_K)

#define KV_LINEAR_FLOATS(name, Element, compute)                                                                  \
  extern "C" __global__ void __launch_bounds__(kv::LINEAR_THREADS)                                                \
      linear_##name(float* out, const float* x, const Element* numbers, const float* bias, int rows, int cols,    \
                    int width, int out_stride) {                                                                  \
    kv::linear::compute(out, x, numbers, bias, rows, cols, width, out_stride);                                    \
  }                                                                                                               \
  KV_KERNEL(linear_##name)
KV_LINEAR_FLOATS(f32, float, plain)
KV_LINEAR_FLOATS(f16, kv::u16, sixteen_bits<kv::linear::Half>)
KV_LINEAR_FLOATS(bf16, kv::u16, sixteen_bits<kv::linear::Bfloat>)
