// ROWS rows of a tile for one KV head, by all warps of the block: each scores a quarter of a chunk's positions and has a quarter of
// the output's columns. For few rows over many positions.
#pragma once
#include "tile.cuh"

namespace kv::attention {

template <int HEAD>
struct Shared : Shape<HEAD> {
  using Shape<HEAD>::STRIDE;
  using Shape<HEAD>::CHUNK;
  // Tiles of 8 positions that a warp scores, and products of 16 columns for which it loads keys at once.
  static constexpr int TILES = CHUNK / WARPS / 8, STEPS = 2 / TILES;

  alignas(16) u16 queries[ROWS][STRIDE];
  alignas(16) u16 keys[CHUNK][STRIDE];
  alignas(16) u16 values[CHUNK][STRIDE];
  alignas(16) u16 weights[ROWS][CHUNK + 8];
  // The largest score of each row among the positions of each warp.
  float peaks[WARPS][ROWS];
};

// Of a warp, whose maxima and sums are those of all warps.
template <int HEAD>
using NarrowState = State<Shape<HEAD>::OWN>;

// One split of the tile's rows. `state` is of this split alone; the sums are of the whole row in every lane.
template <int HEAD>
__device__ __forceinline__ void attend(Shared<HEAD>& shared, NarrowState<HEAD>& state, const Source& source,
                                       const Tile& tile, const Numbers& n, int split) {
  using S = Shared<HEAD>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4;
  const Element left = left_address(lane), right = right_address(lane);
  const Seen seen(tile, n.window);
  const int begin = max(split * SPLIT, tile.from(0, n.window));
  const int end = min((split + 1) * SPLIT, tile.to(tile.rows - 1));
  state.clear();
  const int first = warp * S::TILES * 8;  // of the warp's positions in a chunk
  const int start = begin / S::CHUNK * S::CHUNK;
  fetch<HEAD>(shared.keys, source.keys, source, start, begin, end);
  copy_async_commit();
  fetch<HEAD>(shared.values, source.values, source, start, begin, end);
  copy_async_commit();
  for (int chunk = start; chunk < end; chunk += S::CHUNK) {
    copy_async_wait<1>();
    __syncthreads();  // the keys are there, and so are the queries
    float scores[S::TILES][4] = {};
#pragma unroll
    for (int d = 0; d < S::DIMS; d += 16 * S::STEPS) {
      // Two tiles of 8 positions and 16 columns each, or one of 8 positions and 32 columns.
      u32 k[4];
      const u16* key = S::TILES == 2 ? &shared.keys[first + right.row][d + right.column]
                                     : &shared.keys[first + lane % 8][d + lane / 8 * 8];
      load_matrices(k, key);
#pragma unroll
      for (int step = 0; step < S::STEPS; step++) {
        u32 q[4], tiles[S::TILES][2];
        load_matrices(q, &shared.queries[left.row][d + step * 16 + left.column]);
#pragma unroll
        for (int j = 0; j < S::TILES; j++) {
          tiles[j][0] = k[(j + step) * 2];
          tiles[j][1] = k[(j + step) * 2 + 1];
        }
        mma_f16(scores, q, tiles);
      }
    }
    cap_scores(scores, n.soft_cap);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float peak = minus_infinity();
#pragma unroll
      for (int i = 0; i < S::TILES * 2; i++) {
        const int position = chunk + first + i / 2 * 8 + accumulator(lane, i % 2).column;
        float& score = scores[i / 2][half * 2 + i % 2];
        if (!seen.has(half, position)) score = minus_infinity();
        peak = fmaxf(peak, score);
      }
      peak = fmaxf(peak, __shfl_xor_sync(ALL_LANES, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(ALL_LANES, peak, 2));
      if (lane % 4 == 0) shared.peaks[warp][row + 8 * half] = peak;
    }
    __syncthreads();  // peaks are there, the keys have been used
    if (chunk + S::CHUNK < end) fetch<HEAD>(shared.keys, source.keys, source, chunk + S::CHUNK, begin, end);
    copy_async_commit();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = state.most[half];
#pragma unroll
      for (int w = 0; w < WARPS; w++) most = fmaxf(most, shared.peaks[w][row + 8 * half]);
      const float base = state.raise(half, most);
#pragma unroll
      for (int j = 0; j < S::TILES; j++) {
        const u32 weights = floats_to_halves(exp2_approximate(scores[j][half * 2] - base),
                                             exp2_approximate(scores[j][half * 2 + 1] - base));
        *reinterpret_cast<u32*>(&shared.weights[row + 8 * half][first + j * 8 + accumulator(lane, 0).column]) = weights;
      }
    }
    copy_async_wait<1>();
    __syncthreads();  // weights and values are there
#pragma unroll
    for (int k = 0; k < S::CHUNK; k += 16) {
      u32 p[4];
      load_matrices(p, &shared.weights[left.row][k + left.column]);
#pragma unroll
      for (int i = 0; i < 4; i++)
        state.sum[i % 2] += half_to_float(u16(p[i])) + half_to_float(u16(p[i] >> 16));
#pragma unroll
      for (int i = 0; i < S::OWN; i++) {
        const int pair = i * WARPS + warp;
        if (pair >= S::PAIRS) break;
        u32 v[4];
        // Values are kept by rows: transposed, the addresses of a's registers give those of two tiles of b.
        load_matrices_transposed(v, &shared.values[k + left.row][pair * 16 + left.column]);
        const u32 tiles[2][2] = {{v[0], v[1]}, {v[2], v[3]}};
        mma_f16(state.out[i], p, tiles);
      }
    }
    __syncthreads();  // values and weights have been used
    if (chunk + S::CHUNK < end) fetch<HEAD>(shared.values, source.values, source, chunk + S::CHUNK, begin, end);
    copy_async_commit();
  }
  state.add_lanes();
}

// Calls `store(half, column, low, high)` for each two neighbouring columns that the thread has of row lane / 4 + 8 * half.
template <int HEAD, class Store>
__device__ __forceinline__ void each_pair(const NarrowState<HEAD>& state, Store store) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < Shared<HEAD>::OWN; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int column = (i * WARPS + warp) * 16 + j / 2 * 8 + accumulator(lane, 0).column;
      if (column < HEAD) store(j % 2, column, state.out[i][j / 2][j % 2 * 2], state.out[i][j / 2][j % 2 * 2 + 1]);
    }
}

// All splits of a tile.
template <int HEAD>
__device__ __forceinline__ void whole_narrow(Shared<HEAD>& shared, float* __restrict__ out, const float* __restrict__ qkv,
                                             const u8* __restrict__ kv, const int* __restrict__ blocks, const Tile& tile,
                                             const Numbers& n) {
  load_queries<HEAD, ROWS>(shared.queries, qkv, tile, n);
  const Source source = source_of<HEAD>(kv, blocks, tile, n);
  NarrowState<HEAD> total, part;
  total.clear();
  const int last = (tile.to(tile.rows - 1) - 1) / SPLIT;
#pragma unroll 1
  for (int split = tile.from(0, n.window) / SPLIT; split <= last; split++) {
    attend<HEAD>(shared, part, source, tile, n, split);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (part.most[half] == minus_infinity()) continue;
      float by, part_by;
      factors(total.most[half], part.most[half], by, part_by);
      total.sum[half] = fmaf(part.sum[half], part_by, total.sum[half] * by);
#pragma unroll
      for (int i = 0; i < Shared<HEAD>::OWN; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
          float& to = total.out[i][j / 2][half * 2 + j % 2];
          to = fmaf(part.out[i][j / 2][half * 2 + j % 2], part_by, to * by);
        }
    }
  }
  each_pair<HEAD>(total, [&](int half, int column, float low, float high) {
    const int row = threadIdx.x % 32 / 4 + 8 * half;
    if (row >= tile.rows) return;
    float* to = out + tile.place(row, n.num_heads) * HEAD + column;
    *reinterpret_cast<float2*>(to) = make_float2(low / total.sum[half], high / total.sum[half]);
  });
}

}  // namespace kv::attention
