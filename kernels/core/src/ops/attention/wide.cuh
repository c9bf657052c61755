// Four times ROWS rows of a tile for one KV head, a warp each: for prompts, where keys and values are used by many rows. A row
// goes through the same products, sums and roundings in the same order as in `narrow.cuh`, so it has the same bits.
#pragma once
#include "tile.cuh"

namespace kv::attention {

constexpr int WIDE_ROWS = WARPS * ROWS;

template <int HEAD>
struct WideShared : Shape<HEAD> {
  using Shape<HEAD>::STRIDE;
  using Shape<HEAD>::CHUNK;

  alignas(16) u16 queries[WIDE_ROWS][STRIDE];
  alignas(16) u16 keys[CHUNK][STRIDE];
  alignas(16) u16 values[CHUNK][STRIDE];
};

// Of the warp's rows, and all columns.
template <int HEAD>
using WideState = State<Shape<HEAD>::PAIRS>;

// One split of the tile's rows, of which `own` are the warp's.
template <int HEAD>
__device__ __forceinline__ void attend_wide(WideShared<HEAD>& shared, WideState<HEAD>& state,
                                            const Source& source, const Tile& tile, const Tile& own, const Numbers& n,
                                            int split) {
  using S = Shape<HEAD>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Element left = left_address(lane), right = right_address(lane);
  const Seen seen(own, n.window);
  const int begin = max(split * SPLIT, tile.from(0, n.window));
  const int end = min((split + 1) * SPLIT, tile.to(tile.rows - 1));
  state.clear();
  const int start = begin / S::CHUNK * S::CHUNK;
  fetch<HEAD>(shared.keys, source.keys, source, start, begin, end);
  copy_async_commit();
  fetch<HEAD>(shared.values, source.values, source, start, begin, end);
  copy_async_commit();
#pragma unroll 1
  for (int chunk = start; chunk < end; chunk += S::CHUNK) {
    copy_async_wait<1>();
    __syncthreads();  // the keys are there, and so are the queries
    float scores[S::CHUNK / 16][2][4] = {};
#pragma unroll
    for (int d = 0; d < S::DIMS; d += 16) {
      u32 q[4];
      load_matrices(q, &shared.queries[warp * ROWS + left.row][d + left.column]);
#pragma unroll
      for (int j = 0; j < S::CHUNK / 16; j++) {
        u32 k[4];
        load_matrices(k, &shared.keys[j * 16 + right.row][d + right.column]);
        const u32 tiles[2][2] = {{k[0], k[1]}, {k[2], k[3]}};
        mma_f16(scores[j], q, tiles);
      }
    }
    __syncthreads();  // the keys have been used
    if (chunk + S::CHUNK < end) fetch<HEAD>(shared.keys, source.keys, source, chunk + S::CHUNK, begin, end);
    copy_async_commit();
#pragma unroll
    for (int j = 0; j < S::CHUNK / 16; j++) cap_scores(scores[j], n.soft_cap);
    // The weights as registers of a: two neighbouring tiles of scores are one tile of weights.
    u32 weights[S::CHUNK / 16][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = state.most[half];
#pragma unroll
      for (int i = 0; i < S::CHUNK / 4; i++) {
        float& score = scores[i / 4][i / 2 % 2][half * 2 + i % 2];
        const int position = chunk + i / 2 * 8 + accumulator(lane, i % 2).column;
        if (!seen.has(half, position)) score = minus_infinity();
        most = fmaxf(most, score);
      }
      most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
      most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
      const float base = state.raise(half, most);
#pragma unroll
      for (int j = 0; j < S::CHUNK / 8; j++) {
        const float* two = &scores[j / 2][j % 2][half * 2];
        weights[j / 2][j % 2 * 2 + half] =
            floats_to_halves(exp2_approximate(two[0] - base), exp2_approximate(two[1] - base));
      }
    }
#pragma unroll
    for (int i = 0; i < S::CHUNK / 4; i++) {
      const u32 two = weights[i / 4][i % 4];
      state.sum[i % 2] += half_to_float(u16(two)) + half_to_float(u16(two >> 16));
    }
    copy_async_wait<1>();
    __syncthreads();  // the values are there
#pragma unroll
    for (int k = 0; k < S::CHUNK / 16; k++)
#pragma unroll
      for (int pair = 0; pair < S::PAIRS; pair++) {
        u32 v[4];
        load_matrices_transposed(v, &shared.values[k * 16 + left.row][pair * 16 + left.column]);
        const u32 tiles[2][2] = {{v[0], v[1]}, {v[2], v[3]}};
        mma_f16(state.out[pair], weights[k], tiles);
      }
    __syncthreads();  // the values have been used
    if (chunk + S::CHUNK < end) fetch<HEAD>(shared.values, source.values, source, chunk + S::CHUNK, begin, end);
    copy_async_commit();
  }
  state.add_lanes();
}

// Calls `change(two, tile of 8 columns)` for each two neighbouring elements that the thread has of row lane / 4 + 8 * half.
template <int HEAD, class Change>
__device__ __forceinline__ void each_two(float* out, const Tile& own, const Numbers& n, int half, Change change) {
  const int lane = threadIdx.x % 32, row = lane / 4 + 8 * half;
  if (row >= own.rows) return;
  float* to = out + own.place(row, n.num_heads) * HEAD + accumulator(lane, 0).column;
#pragma unroll
  for (int i = 0; i < HEAD / 8; i++) change(*reinterpret_cast<float2*>(to + i * 8), i);
}

// All splits of a tile of at most WIDE_ROWS rows. What the splits before came to waits in `out`, where each thread reads and
// writes its own elements: registers have no room for it.
template <int HEAD>
__device__ __forceinline__ void whole_wide(WideShared<HEAD>& shared, float* out, const float* __restrict__ qkv,
                                           const u8* __restrict__ kv, const int* __restrict__ blocks, const Tile& tile,
                                           const Numbers& n) {
  const int warp = threadIdx.x / 32;
  Tile own = tile;
  own.first_row += warp * ROWS;
  own.rows = min(ROWS, tile.rows - warp * ROWS);
  load_queries<HEAD, WIDE_ROWS>(shared.queries, qkv, tile, n);
  const Source source = source_of<HEAD>(kv, blocks, tile, n);
  float most[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0.0f, 0.0f};
  const int last = (tile.to(tile.rows - 1) - 1) / SPLIT;
#pragma unroll 1
  for (int split = tile.from(0, n.window) / SPLIT; split <= last; split++) {
    WideState<HEAD> part;
    attend_wide<HEAD>(shared, part, source, tile, own, n, split);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (part.most[half] == minus_infinity()) continue;
      const bool first = most[half] == minus_infinity();
      float by, part_by;
      factors(most[half], part.most[half], by, part_by);
      sum[half] = fmaf(part.sum[half], part_by, sum[half] * by);
      each_two<HEAD>(out, own, n, half, [&](float2& two, int i) {
        const float* new_two = &part.out[i / 2][i % 2][half * 2];
        const float2 old = first ? make_float2(0.0f, 0.0f) : two;
        two = make_float2(fmaf(new_two[0], part_by, old.x * by), fmaf(new_two[1], part_by, old.y * by));
      });
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++)
    each_two<HEAD>(out, own, n, half, [&](float2& two, int) { two = make_float2(two.x / sum[half], two.y / sum[half]); });
}

}  // namespace kv::attention
