// Which element of a tile a lane holds where: the fragment maps of `mma.sync` (PTX ISA, "Matrix Fragments for mma.m16n8k16 with
// floating point type" and "for mma.m16n8k32"), as tables. `tests/gpu/fragments.h` compares them with the ISA's own wording.
#pragma once

namespace kv {

struct Element {
  int row, column;
};

// Of d (16 x 8): number i of 4.
constexpr __host__ __device__ Element accumulator(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }
// Of a (16 x 16) of 16-bit elements: register i of 4, its half. Of b (16 x 8): register i of 2.
constexpr __host__ __device__ Element left_half(int lane, int i, int half) {
  return {lane / 4 + i % 2 * 8, lane % 4 * 2 + half + i / 2 * 8};
}
constexpr __host__ __device__ Element right_half(int lane, int i, int half) {
  return {lane % 4 * 2 + half + i * 8, lane / 4};
}
// Of a (16 x 32) of bytes: register i of 4, its byte. Of b (32 x 8): register i of 2.
constexpr __host__ __device__ Element left_byte(int lane, int i, int byte) {
  return {lane / 4 + i % 2 * 8, lane % 4 * 4 + byte + i / 2 * 16};
}
constexpr __host__ __device__ Element right_byte(int lane, int i, int byte) {
  return {lane % 4 * 4 + byte + i * 16, lane / 4};
}

// The row of `ldmatrix.x4` that a lane hands the address of, for tiles that lie as registers of a (rows first, then columns)
// or, of a matrix kept column by column, as registers of b for two neighbouring tiles.
constexpr __host__ __device__ Element left_address(int lane) { return {lane % 16, lane / 16 * 8}; }
constexpr __host__ __device__ Element right_address(int lane) { return {lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8}; }

}  // namespace kv
