// Quantised weights as `backend/cuda/kernels.rs` lays them out: planes of blocks of 32 columns, in panels of 32 rows, block
// (row, b) at `block_index`. Also what activations and the embedding table share with them.
#pragma once
#include "device.cuh"

namespace kv {

// Columns of a block.
constexpr int BLOCK = 32;
// Rows of a panel.
constexpr int PANEL = 32;

// A format: bits of a number, what is taken off it, whether scales are f32 (else f16), whether there is a minimum, whether
// there are two scales a block.
struct Q4_0 { static constexpr int bits = 4, zero = 8; static constexpr bool wide = false, minimum = false, halves = false; };
struct Q4_1 { static constexpr int bits = 4, zero = 0; static constexpr bool wide = false, minimum = true, halves = false; };
struct Q8_0 { static constexpr int bits = 8, zero = 0; static constexpr bool wide = false, minimum = false, halves = false; };
struct Q5_1 { static constexpr int bits = 8, zero = 0; static constexpr bool wide = false, minimum = true, halves = false; };
struct Q4_K { static constexpr int bits = 4, zero = 0; static constexpr bool wide = true, minimum = true, halves = false; };
struct Q5_K { static constexpr int bits = 8, zero = 0; static constexpr bool wide = true, minimum = true, halves = false; };
struct Q6_K { static constexpr int bits = 8, zero = 0; static constexpr bool wide = true, minimum = false, halves = true; };

// Where a block of a row lies in its plane, in blocks.
__device__ __forceinline__ i64 block_index(int row, int block, int blocks) {
  return (i64(row / PANEL) * blocks + block) * PANEL + row % PANEL;
}

// Scale or minimum `index` of a plane.
template <class Format>
__device__ __forceinline__ float factor(const void* plane, i64 index) {
  return Format::wide ? static_cast<const float*>(plane)[index]
                      : half_to_float(static_cast<const u16*>(plane)[index]);
}

// Eight 4-bit numbers of a word as signed bytes.
template <class Format>
__device__ __forceinline__ void split_nibbles(u32 word, u32& low, u32& high) {
  low = word & 0x0F0F0F0Fu;
  high = word >> 4 & 0x0F0F0F0Fu;
  if constexpr (Format::zero == 8) {
    // A byte q of 0..15 becomes q - 8: 0x78 + q does not carry, and the flipped top bit takes 0x80 off.
    low = (low + 0x78787878u) ^ 0x80808080u;
    high = (high + 0x78787878u) ^ 0x80808080u;
  }
}

// The numbers of a block as signed bytes: word i has columns 4i..4i+3.
template <class Format>
__device__ __forceinline__ void unpack(const uint4 (&from)[Format::bits / 4], u32 (&to)[8]) {
#pragma unroll
  for (int i = 0; i < Format::bits / 4; i++) {
    const u32 words[4] = {from[i].x, from[i].y, from[i].z, from[i].w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if constexpr (Format::bits == 4) split_nibbles<Format>(words[j], to[2 * j], to[2 * j + 1]);
      else to[4 * i + j] = words[j];
    }
  }
}

}  // namespace kv
