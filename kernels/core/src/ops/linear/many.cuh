// Quantised weights and many rows, on tensor cores.
#pragma once
#include "../../cuda/fragments.cuh"
#include "weights.cuh"

namespace kv::linear {

// A block has LINEAR_MANY_COLUMNS output columns and LINEAR_MANY_ROWS rows, a warp half of
// each. Weights are the 16 x 32 tiles, rows of the input the 32 x 8 ones; the k-th byte of a lane's registers stands for the
// same column in both, in an order that lets a lane read its bytes in one go: lane % 4 = i has columns 8i..8i+7.
template <class Format>
struct Stage {
  // Blocks of columns that are fetched together.
  static constexpr int BLOCKS = 4;
  static constexpr int PANELS = LINEAR_MANY_COLUMNS / PANEL;
  static constexpr int WORDS = PANEL * Format::bits;  // of a block of a panel
  static constexpr int PARTS = Format::halves ? 2 : 1;
  static constexpr int SCALE_BYTES = PANEL * PARTS * (Format::wide ? 4 : 2);
  static constexpr int MINIMUM_BYTES = Format::minimum ? PANEL * (Format::wide ? 4 : 2) : 0;

  alignas(16) u32 weights[PANELS][BLOCKS][WORDS];
  alignas(16) u32 x[BLOCKS][LINEAR_MANY_ROWS][BLOCK / 4];
  alignas(16) u8 scales[PANELS][BLOCKS][SCALE_BYTES];
  alignas(16) u8 minima[PANELS][BLOCKS][MINIMUM_BYTES + 16];
  alignas(16) float x_scales[BLOCKS][LINEAR_MANY_ROWS];
  alignas(16) float x_sums[BLOCKS][LINEAR_MANY_ROWS];
};

// Sends for `count` blocks of a plane, from block `first` on; what is not there becomes zeros.
template <int BLOCK_BYTES, int BLOCKS, class To>
__device__ __forceinline__ void fetch_panel(To& to, const void* plane, i64 first, int count) {
  const u8* from = static_cast<const u8*>(plane) + first * BLOCK_BYTES;
  for (int i = threadIdx.x; i < BLOCKS * BLOCK_BYTES / 16; i += LINEAR_THREADS) {
    const bool present = i < count * BLOCK_BYTES / 16;
    u8* block = reinterpret_cast<u8*>(to[i / (BLOCK_BYTES / 16)]);
    copy_async(block + i % (BLOCK_BYTES / 16) * 16, present ? from + i * 16 : from, present);
  }
}

template <class Format>
__device__ __forceinline__ void many(float* __restrict__ out, const uint4* __restrict__ x_numbers,
                                     const float* __restrict__ x_scales, const float* __restrict__ x_sums,
                                     const Weights<Format>& weights, const float* __restrict__ bias, int rows, int cols,
                                     int width, int out_stride) {
  using S = Stage<Format>;
  // A dot is below 2^22: added to the bits of 1.5 * 2^23 it is that float plus the dot, exactly.
  constexpr int ORIGIN = 0x4B400000;
  constexpr float ORIGIN_FLOAT = 12582912.0f;
  // As many chunks on their way as there is room for.
  constexpr int STAGES = 3 * sizeof(S) <= 48 * 1024 ? 3 : 2;
  __shared__ S stages[STAGES];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int blocks = cols / BLOCK, panels = (width + PANEL - 1) / PANEL;
  const int first_panel = blockIdx.x * S::PANELS, first_row = blockIdx.y * LINEAR_MANY_ROWS;
  const auto fetch = [&](S& stage, int block) {
    const int count = max(0, min(S::BLOCKS, blocks - block));
#pragma unroll
    for (int p = 0; p < S::PANELS; p++) {
      const bool there = first_panel + p < panels;
      const i64 first = there ? (i64(first_panel + p) * blocks + block) : 0;
      const int present = there ? count : 0;
      fetch_panel<S::WORDS * 4, S::BLOCKS>(stage.weights[p], weights.numbers, first, present);
      fetch_panel<S::SCALE_BYTES, S::BLOCKS>(stage.scales[p], weights.scales, first, present);
      if constexpr (Format::minimum)
        fetch_panel<S::MINIMUM_BYTES, S::BLOCKS>(stage.minima[p], weights.minima, first, present);
    }
    for (int i = threadIdx.x; i < LINEAR_MANY_ROWS * S::BLOCKS * 2; i += LINEAR_THREADS) {
      const int row = i / (S::BLOCKS * 2), place = i % (S::BLOCKS * 2) / 2, half = i % 2;
      const bool present = first_row + row < rows && place < count;
      const i64 at = present ? (i64(first_row + row) * blocks + block + place) * 2 + half : 0;
      copy_async(&stage.x[place][row][half * 4], x_numbers + at, present);
    }
    for (int i = threadIdx.x; i < LINEAR_MANY_ROWS * S::BLOCKS; i += LINEAR_THREADS) {
      const int row = i / S::BLOCKS, place = i % S::BLOCKS;
      const bool present = first_row + row < rows && place < count;
      const i64 at = present ? i64(first_row + row) * blocks + block + place : 0;
      copy_async_word(&stage.x_scales[place][row], x_scales + at, present);
      if constexpr (Format::minimum) copy_async_word(&stage.x_sums[place][row], x_sums + at, present);
    }
    copy_async_commit();
  };
  // The warp's panel, and the first of its rows.
  const int panel = warp / 2, row_of_warp = warp % 2 * 32;
  float sums[2][4][4] = {};
  // Each turn sends for the blocks STAGES - 1 turns ahead, into the stage that was used up in the turn before.
#pragma unroll 1
  for (int block = (1 - STAGES) * S::BLOCKS, free = 0; block < blocks; block += S::BLOCKS) {
    fetch(stages[free], block + (STAGES - 1) * S::BLOCKS);
    free = free + 1 < STAGES ? free + 1 : 0;
    if (block < 0) continue;
    copy_async_wait<STAGES - 1>();
    __syncthreads();
    const S& stage = stages[free];
    const int count = min(S::BLOCKS, blocks - block);
#pragma unroll 1
    for (int place = 0; place < count; place++) {
      u32 x[4][2];
      float2 by[4], sum_by[4];  // of two neighbouring rows
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint2 two = *reinterpret_cast<const uint2*>(&stage.x[place][row_of_warp + j * 8 + lane / 4][lane % 4 * 2]);
        x[j][0] = two.x;
        x[j][1] = two.y;
        const int two_rows = row_of_warp + j * 8 + accumulator(lane, 0).column;
        by[j] = *reinterpret_cast<const float2*>(&stage.x_scales[place][two_rows]);
        if constexpr (Format::minimum) sum_by[j] = *reinterpret_cast<const float2*>(&stage.x_sums[place][two_rows]);
      }
#pragma unroll
      for (int i = 0; i < 2; i++) {
        u32 w[4];  // rows lane / 4 and + 8: columns 8k..8k+3 of both, then 8k+4..8k+7
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int row = i * 16 + half * 8 + lane / 4;
          if constexpr (Format::bits == 4) {
            split_nibbles<Format>(stage.weights[panel][place][row * 4 + lane % 4], w[half], w[half + 2]);
          } else {
            const uint2 two = *reinterpret_cast<const uint2*>(&stage.weights[panel][place][row * 8 + lane % 4 * 2]);
            w[half] = two.x;
            w[half + 2] = two.y;
          }
        }
#pragma unroll
        for (int part = 0; part < S::PARTS; part++) {
          u32 a[4];
          // Of two scales a block, lanes 0 and 1 of four have the columns of the first.
#pragma unroll
          for (int k = 0; k < 4; k++) a[k] = S::PARTS == 1 || lane % 4 / 2 == part ? w[k] : 0u;
          int dots[4][4];
#pragma unroll
          for (int j = 0; j < 16; j++) dots[j / 4][j % 4] = ORIGIN;
          mma_s8(dots, a, x);
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const int row = i * 16 + half * 8 + lane / 4;
            const float scale = factor<Format>(stage.scales[panel][place], row * S::PARTS + part);
#pragma unroll
            for (int j = 0; j < 4; j++) {
              float* sum = &sums[i][j][half * 2];
              sum[0] = fmaf((__int_as_float(dots[j][half * 2]) - ORIGIN_FLOAT) * scale, by[j].x, sum[0]);
              sum[1] = fmaf((__int_as_float(dots[j][half * 2 + 1]) - ORIGIN_FLOAT) * scale, by[j].y, sum[1]);
            }
          }
        }
        if constexpr (Format::minimum) {
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const float minimum = factor<Format>(stage.minima[panel][place], i * 16 + half * 8 + lane / 4);
#pragma unroll
            for (int j = 0; j < 4; j++) {
              float* sum = &sums[i][j][half * 2];
              sum[0] = fmaf(minimum, sum_by[j].x, sum[0]);
              sum[1] = fmaf(minimum, sum_by[j].y, sum[1]);
            }
          }
        }
      }
    }
    __syncthreads();
  }
  // What was sent for beyond the end, zeros, lands before the block's memory is another's.
  copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const Element element = accumulator(lane, k);
        const int column = (first_panel + panel) * PANEL + i * 16 + element.row;
        const int row = first_row + row_of_warp + j * 8 + element.column;
        if (column < width && row < rows)
          out[i64(row) * out_stride + column] = bias ? sums[i][j][k] + bias[column] : sums[i][j][k];
      }
}

}  // namespace kv::linear
