// Quantised weights and few rows: the memory of the weights is what counts.
#pragma once
#include "weights.cuh"

namespace kv::linear {

// What the warps leave for each other: of ROWS input rows and CHUNK blocks of columns.
template <class Format, int ROWS, int CHUNK>
struct Terms {
  float dots[ROWS][CHUNK][Format::halves ? 2 : 1][PANEL];
  float minima[Format::minimum ? CHUNK : 1][PANEL];
};

// A lane has an output column (a row of the weight). The warps share out the blocks of a chunk and leave each block's
// `dot * scale` in shared memory; then a warp has an input row and adds its terms up in order.
template <class Format, int ROWS, int CHUNK>
__device__ __forceinline__ void few(Terms<Format, ROWS, CHUNK>& terms, float* __restrict__ out,
                                    const uint4* __restrict__ x_numbers, const float* __restrict__ x_scales,
                                    const float* __restrict__ x_sums, const Weights<Format>& weights,
                                    const float* __restrict__ bias, int first, int count, int cols, int width,
                                    int out_stride) {
  constexpr int PARTS = Format::halves ? 2 : 1;
  // Blocks of a chunk that a warp has, and rows whose terms it adds up.
  constexpr int EACH = CHUNK / WARPS, SUMS = (ROWS + WARPS - 1) / WARPS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int column = blockIdx.x * PANEL + lane, blocks = cols / BLOCK;
  Held<Format> held[EACH];
  const auto load = [&](int chunk) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int block = chunk + i * WARPS + warp;
      if (block < blocks) held[i] = weights.load(block_index(column, block, blocks));
    }
  };
  float sums[SUMS] = {};
  load(0);
  for (int chunk = 0; chunk < blocks; chunk += CHUNK) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int place = i * WARPS + warp, block = chunk + place;
      if (block >= blocks) break;
      u32 w[8];
      unpack<Format>(held[i].numbers, w);
      if constexpr (Format::minimum) terms.minima[place][lane] = held[i].minimum;
#pragma unroll 1
      for (int t = 0; t < (ROWS == 1 ? 1 : count); t++) {
        const uint4* from = x_numbers + (i64(first + t) * blocks + block) * 2;
        const uint4 low = from[0], high = from[1];
        const int x[8] = {int(low.x),  int(low.y),  int(low.z),  int(low.w),
                          int(high.x), int(high.y), int(high.z), int(high.w)};
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
          int dot = 0;
#pragma unroll
          for (int k = part * 8 / PARTS; k < (part + 1) * 8 / PARTS; k++) dot = dot4(int(w[k]), x[k], dot);
          terms.dots[t][place][part][lane] = float(dot) * held[i].scales[part];
        }
      }
    }
    // The next weights are on their way while the terms are added up.
    load(chunk + CHUNK);
    __syncthreads();
    const int end = min(CHUNK, blocks - chunk);
#pragma unroll
    for (int i = 0; i < SUMS; i++) {
      const int t = i * WARPS + warp;
      if (t >= count) break;
      const i64 at = i64(first + t) * blocks + chunk;
#pragma unroll 8
      for (int place = 0; place < end; place++) {
#pragma unroll
        for (int part = 0; part < PARTS; part++)
          sums[i] = fmaf(terms.dots[t][place][part][lane], x_scales[at + place], sums[i]);
        if constexpr (Format::minimum) sums[i] = fmaf(terms.minima[place][lane], x_sums[at + place], sums[i]);
      }
    }
    __syncthreads();
  }
  if (column >= width) return;
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
    const int t = i * WARPS + warp;
    if (t < count) out[i64(first + t) * out_stride + column] = bias ? sums[i] + bias[column] : sums[i];
  }
}

// A single row has more blocks of 4-bit weights on their way: there is little else to hide their latency.
template <class Format>
__device__ __forceinline__ void quantised(float* __restrict__ out, const uint4* __restrict__ x_numbers,
                                          const float* __restrict__ x_scales, const float* __restrict__ x_sums,
                                          const Weights<Format>& weights, const float* __restrict__ bias, int rows,
                                          int cols, int width, int out_stride) {
  using One = Terms<Format, 1, Format::bits == 4 ? 32 : 16>;
  using Several = Terms<Format, LINEAR_ROWS, 16>;
  static_assert(sizeof(One) <= sizeof(Several), "the memory is of several rows");
  __shared__ __align__(16) u8 memory[sizeof(Several)];
  const int first = blockIdx.y * LINEAR_ROWS, count = min(LINEAR_ROWS, rows - first);
  if (count == 1) {
    few(*reinterpret_cast<One*>(memory), out, x_numbers, x_scales, x_sums, weights, bias, first, 1, cols, width,
        out_stride);
  } else {
    few(*reinterpret_cast<Several*>(memory), out, x_numbers, x_scales, x_sums, weights, bias, first, count, cols,
        width, out_stride);
  }
}

}  // namespace kv::linear
