// The fragment tables against the wording of the PTX ISA, at compile time: groupID = laneid >> 2, threadID_in_group = laneid % 4,
// elements counted through the registers.
#pragma once
#define __host__
#define __device__
#include "../../kernels/core/src/cuda/fragments.cuh"
#undef __host__
#undef __device__

namespace fragments {

constexpr bool is(kv::Element element, int row, int column) { return element.row == row && element.column == column; }

constexpr bool halves_are_as_in_the_isa() {
  for (int lane = 0; lane < 32; lane++) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; i++) {
      const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
      const int column = i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
      if (!is(kv::left_half(lane, i / 2, i % 2), row, column)) return false;
    }
    for (int i = 0; i < 4; i++) {
      const int row = i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
      if (!is(kv::right_half(lane, i / 2, i % 2), row, group)) return false;
      if (!is(kv::accumulator(lane, i), i < 2 ? group : group + 8, thread * 2 + (i & 1))) return false;
    }
  }
  return true;
}

constexpr bool bytes_are_as_in_the_isa() {
  for (int lane = 0; lane < 32; lane++) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 16; i++) {
      const int row = (0 <= i && i < 4) || (8 <= i && i < 12) ? group : group + 8;
      const int column = i < 8 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16;
      if (!is(kv::left_byte(lane, i / 4, i % 4), row, column)) return false;
    }
    for (int i = 0; i < 8; i++) {
      const int row = i < 4 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16;
      if (!is(kv::right_byte(lane, i / 4, i % 4), row, group)) return false;
    }
  }
  return true;
}

/// `ldmatrix`: lanes 8i..8i+7 name the rows of matrix i, which becomes register i; lane l gets row l / 4, elements 2 * (l % 4)
/// and the next. So the row named for a register begins where that register's lane 4j has its first element.
constexpr bool addresses_fit_the_registers() {
  for (int lane = 0; lane < 32; lane++) {
    const int matrix = lane / 8, row = lane % 8;
    const kv::Element a = kv::left_half(row * 4, matrix, 0), left = kv::left_address(lane);
    if (!is(left, a.row, a.column)) return false;
    // Matrices 0 and 1 are the registers of one tile of b, 2 and 3 those of the next; kept by columns, a row is a column of b.
    const kv::Element b = kv::right_half(row * 4, matrix % 2, 0), right = kv::right_address(lane);
    if (!is(right, b.column + matrix / 2 * 8, b.row)) return false;
  }
  return true;
}

static_assert(halves_are_as_in_the_isa());
static_assert(bytes_are_as_in_the_isa());
static_assert(addresses_fit_the_registers());

}  // namespace fragments
