// Activations in 8 bits per block of 32 columns (`ops/linear/cpu/activations.rs` is the definition): `numbers` i8
// `[row][column]`, `scales` f32 `[row][block]` and `sums` f32 `[row][block]`, the scale times the sum of the numbers. A block of
// tiny numbers is zero; one with an infinity or NaN has a NaN scale.
#pragma once
#include "device.cuh"

namespace kv {

// Blocks whose largest magnitude is below this are taken as zero: 127 / magnitude must stay finite.
constexpr float TINY = 1e-30f;

// The bits of a magnitude: NaN is above infinity.
__device__ __forceinline__ u32 magnitude(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }

// What a block's largest magnitude makes of its numbers.
struct Rounding {
  // Factor of the numbers; 0 where they are all zero.
  float by;
  float scale;

  __device__ __forceinline__ explicit Rounding(u32 most) {
    const float largest = __uint_as_float(most);
    const bool finite = most < 0x7F800000u;
    by = finite && largest >= TINY ? 127.0f / largest : 0.0f;
    scale = by > 0.0f ? largest / 127.0f : finite ? 0.0f : __uint_as_float(0x7FC00000u);
  }
  __device__ __forceinline__ int number(float x) const { return by > 0.0f ? __float2int_rn(x * by) : 0; }
};

// A block of which each lane of the warp has an element; `block` counts through all rows.
__device__ __forceinline__ void quantize_warp(float x, i64 block, i8* numbers, float* scales, float* sums) {
  const int lane = threadIdx.x % 32;
  u32 most = magnitude(x);
#pragma unroll
  for (int far = 16; far > 0; far /= 2) most = max(most, __shfl_xor_sync(ALL_LANES, most, far));
  const Rounding rounding(most);
  const int number = rounding.number(x);
  int sum = number;
#pragma unroll
  for (int far = 16; far > 0; far /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, far);
  numbers[block * 32 + lane] = i8(number);
  if (lane == 0) {
    scales[block] = rounding.scale;
    sums[block] = rounding.scale * float(sum);
  }
}

}  // namespace kv
