// Weights that are floats.
#pragma once
#include "../../cuda/device.cuh"
#include "../../cuda/fragments.cuh"
#include "../../cuda/launch.cuh"

namespace kv::linear {

// f32 weights: a warp has 8 output columns, one after the other, and all rows. A lane sums every 32nd column of the weight,
// then the lanes are added by a butterfly.
__device__ __forceinline__ void plain(float* __restrict__ out, const float* __restrict__ x,
                                      const float* __restrict__ numbers, const float* __restrict__ bias, int rows,
                                      int cols, int width, int out_stride) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first = blockIdx.y * LINEAR_ROWS, count = min(LINEAR_ROWS, rows - first);
#pragma unroll 1
  for (int i = 0; i < LINEAR_COLUMNS / WARPS; i++) {
    const int column = blockIdx.x * LINEAR_COLUMNS + warp * (LINEAR_COLUMNS / WARPS) + i;
    if (column >= width) return;
    float sums[LINEAR_ROWS] = {};
    for (int k = lane; k < cols; k += 32) {
      const float w = numbers[i64(column) * cols + k];
#pragma unroll
      for (int t = 0; t < LINEAR_ROWS; t++)
        if (t < count) sums[t] = fmaf(w, x[i64(first + t) * cols + k], sums[t]);
    }
#pragma unroll
    for (int t = 0; t < LINEAR_ROWS; t++) {
      if (t >= count) break;
      const float sum = warp_sum(sums[t]);
      if (lane == 0) out[i64(first + t) * out_stride + column] = bias ? sum + bias[column] : sum;
    }
  }
}

// A 16-bit type of weights: how floats become it, and the tensor-core product.
struct Half {
  static __device__ __forceinline__ u32 pair(float low, float high) { return floats_to_halves(low, high); }
  static __device__ __forceinline__ void multiply(float (&d)[1][4], const u32 (&a)[4], const u32 (&b)[1][2]) {
    mma_f16(d, a, b);
  }
};
struct Bfloat {
  static __device__ __forceinline__ u32 pair(float low, float high) { return floats_to_bfloats(low, high); }
  static __device__ __forceinline__ void multiply(float (&d)[1][4], const u32 (&a)[4], const u32 (&b)[1][2]) {
    mma_bf16(d, a, b);
  }
};

// 16-bit weights on tensor cores: activations are rounded to the weight's type. A warp has 16 output columns and every other
// group of 32 columns of the weight; the two warps that share the output columns are added at the end. As above, lane % 4 = i
// has columns 8i..8i+7 of a group: the first four in one product, the others in the next.
template <class Type>
__device__ __forceinline__ void sixteen_bits(float* __restrict__ out, const float* __restrict__ x,
                                             const u16* __restrict__ numbers, const float* __restrict__ bias, int rows,
                                             int cols, int width, int out_stride) {
  constexpr int GROUP = 32;
  __shared__ float4 other_half[WARPS / 2][32];
  const int lane = threadIdx.x % 32, tile = threadIdx.x / 32 % 2, half = threadIdx.x / 64;
  const int first_column = blockIdx.x * LINEAR_COLUMNS + tile * 16, first_row = blockIdx.y * LINEAR_ROWS;
  const bool whole_eights = cols % 8 == 0;
  // Eight neighbouring columns of a row of the weight; zeros outside.
  const auto weights = [&](int row, int k) {
    const u16* from = numbers + i64(row) * cols + k;
    if (row >= width || k >= cols) return make_uint4(0, 0, 0, 0);
    if (whole_eights) return *reinterpret_cast<const uint4*>(from);
    u32 words[4] = {};
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (k + i < cols) words[i / 2] |= u32(from[i]) << 16 * (i % 2);
    return make_uint4(words[0], words[1], words[2], words[3]);
  };
  const auto activations = [&](int row, int k) {
    const float* from = x + i64(row) * cols + k;
    float v[8] = {};
    if (row < rows && k < cols) {
      if (whole_eights) {
        const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
        v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
        v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
      } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
          if (k + i < cols) v[i] = from[i];
      }
    }
    return make_uint4(Type::pair(v[0], v[1]), Type::pair(v[2], v[3]), Type::pair(v[4], v[5]), Type::pair(v[6], v[7]));
  };
  float sums[1][4] = {};
#pragma unroll 4
  for (int group = half * GROUP; group < cols; group += 2 * GROUP) {
    const int k = group + lane % 4 * 8;
    const uint4 low = weights(first_column + lane / 4, k), high = weights(first_column + lane / 4 + 8, k);
    const uint4 rows_of_x = activations(first_row + lane / 4, k);
    Type::multiply(sums, {low.x, high.x, low.y, high.y}, {{rows_of_x.x, rows_of_x.y}});
    Type::multiply(sums, {low.z, high.z, low.w, high.w}, {{rows_of_x.z, rows_of_x.w}});
  }
  if (half == 1) other_half[tile][lane] = make_float4(sums[0][0], sums[0][1], sums[0][2], sums[0][3]);
  __syncthreads();
  if (half == 1) return;
  const float4 other = other_half[tile][lane];
  const float both[4] = {sums[0][0] + other.x, sums[0][1] + other.y, sums[0][2] + other.z, sums[0][3] + other.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const Element element = accumulator(lane, i);
    const int column = first_column + element.row, row = first_row + element.column;
    if (column < width && row < rows) out[i64(row) * out_stride + column] = bias ? both[i] + bias[column] : both[i];
  }
}

}  // namespace kv::linear
