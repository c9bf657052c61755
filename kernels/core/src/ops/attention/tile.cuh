// What both ways to compute attention share: tiles of query rows, chunks of keys and values on their way to shared memory, and
// how two softmaxes become one.
#pragma once
#include "../../cuda/device.cuh"
#include "../../cuda/fragments.cuh"
#include "../../cuda/launch.cuh"

namespace kv::attention {

constexpr int WARPS = ATTENTION_THREADS / 32;
// Rows of a tensor-core tile.
constexpr int ROWS = 16;
constexpr float LOG2_E = 1.44269504088896341f;

// `window` and `soft_cap` are 0 where there is none.
struct Numbers {
  int page_bytes, layer_offset, block_size, num_heads, num_kv_heads, window;
  float scale, soft_cap;
};

// ROWS rows of a tile for one KV head, or fewer.
struct Tile {
  int token, position, table, kv_head, group, first_row, rows;

  __device__ __forceinline__ int token_of(int row) const { return (first_row + row) / group; }
  __device__ __forceinline__ int head_of(int row) const { return kv_head * group + (first_row + row) % group; }
  // Where a row's output lies, in heads.
  __device__ __forceinline__ i64 place(int row, int num_heads) const {
    return i64(token + token_of(row)) * num_heads + head_of(row);
  }
  // Positions that a row sees: from..to.
  __device__ __forceinline__ int to(int row) const { return position + token_of(row) + 1; }
  __device__ __forceinline__ int from(int row, int window) const { return window > 0 ? max(0, to(row) - window) : 0; }
};

template <int HEAD>
struct Shape {
  // Columns of a head, filled up with zeros to whole tensor-core tiles.
  static constexpr int DIMS = (HEAD + 15) / 16 * 16;
  // Eight more halves put neighbouring rows into different banks: the stride is an odd number of 16 bytes.
  static constexpr int STRIDE = DIMS + 8;
  // Positions between two updates of the running maximum: as many as shared memory and registers have room for.
  static constexpr int CHUNK = HEAD > 96 ? 32 : 64;
  // Pairs of 8-column tiles of the output, and the most of them that a warp has.
  static constexpr int PAIRS = DIMS / 16, OWN = (PAIRS + WARPS - 1) / WARPS;
};

// Positions that a thread's two rows see, lane / 4 and lane / 4 + 8 of the tile: from..to, nothing where there is no such row.
struct Seen {
  int from[2], to[2];

  __device__ __forceinline__ Seen(const Tile& tile, int window) {
    const int row = threadIdx.x % 32 / 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const bool present = row + 8 * half < tile.rows;
      from[half] = present ? tile.from(row + 8 * half, window) : 0;
      to[half] = present ? tile.to(row + 8 * half) : 0;
    }
  }
  __device__ __forceinline__ bool has(int half, int position) const {
    return position >= from[half] && position < to[half];
  }
};

// What a thread has of a softmax: of its two rows the maximum in units of log2 and the sum, and the accumulators of so many
// pairs of output tiles.
template <int PAIRS>
struct State {
  float most[2], sum[2];
  float out[PAIRS][2][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      most[half] = minus_infinity();
      sum[half] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < PAIRS * 8; i++) out[i / 8][i / 4 % 2][i % 4] = 0.0f;
  }

  // Takes a maximum that is at least the one before, and brings to it what has been summed. Returns what to take from scores: a
  // row that has seen nothing yet keeps weights and sums of 0.
  __device__ __forceinline__ float raise(int half, float larger) {
    const float base = larger == minus_infinity() ? 0.0f : larger;
    const float by = exp2_approximate(most[half] - base);
    most[half] = larger;
    sum[half] *= by;
#pragma unroll
    for (int i = 0; i < PAIRS * 4; i++) out[i / 4][i / 2 % 2][half * 2 + i % 2] *= by;
    return base;
  }

  // The sums of a row's four lanes to each of them.
  __device__ __forceinline__ void add_lanes() {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      sum[half] += __shfl_xor_sync(ALL_LANES, sum[half], 1);
      sum[half] += __shfl_xor_sync(ALL_LANES, sum[half], 2);
    }
  }
};

// `cap * tanh(score / cap)` for each score, where there is a cap; scores and what becomes of them are in units of log2.
template <int COUNT>
__device__ __forceinline__ void cap_scores(float (&scores)[COUNT][4], float soft_cap) {
  if (soft_cap == 0.0f) return;
  // tanh(x) = 1 - 2 / (1 + e^2x): a far score takes the exponential to 0 or to infinity, and the result to -1 or 1.
  const float cap = soft_cap * LOG2_E, by = 2.0f * LOG2_E / cap;
#pragma unroll
  for (int i = 0; i < COUNT * 4; i++) {
    float& score = scores[i / 4][i % 4];
    score = cap * (1.0f - __fdividef(2.0f, 1.0f + exp2_approximate(score * by)));
  }
}

// The factors that bring two softmaxes to their common maximum, which `most` becomes. With nothing before, `most` is minus
// infinity and its factor 0; the other one has seen something.
__device__ __forceinline__ void factors(float& most, float other, float& by, float& other_by) {
  const float larger = fmaxf(most, other);
  by = exp2_approximate(most - larger);
  other_by = exp2_approximate(other - larger);
  most = larger;
}

// Queries times the scale, in units of log2, rounded to f16; zeros for rows and columns that are not there. The caller waits at a
// barrier before they are read, and has waited at one since they were read last.
template <int HEAD, int MOST_ROWS>
__device__ __forceinline__ void load_queries(u16 (&to)[MOST_ROWS][Shape<HEAD>::STRIDE], const float* __restrict__ qkv,
                                             const Tile& tile, const Numbers& n) {
  constexpr int DIMS = Shape<HEAD>::DIMS;
  const i64 width = i64(n.num_heads + 2 * n.num_kv_heads) * HEAD;
  const float by = n.scale * LOG2_E;
#pragma unroll 4
  for (int i = threadIdx.x; i < MOST_ROWS * DIMS; i += ATTENTION_THREADS) {
    const int row = i / DIMS, d = i % DIMS;
    const bool present = row < tile.rows && d < HEAD;
    const float query =
        present ? qkv[(tile.token + tile.token_of(row)) * width + tile.head_of(row) * HEAD + d] * by : 0.0f;
    to[row][d] = float_to_half(query);
  }
}

// Where the KV of a sequence and a KV head lies: in page 0, and which pages follow each other.
struct Source {
  const u8 *keys, *values;
  const int* blocks;
  int page_bytes, block_size;
};

template <int HEAD>
__device__ __forceinline__ Source source_of(const u8* kv, const int* blocks, const Tile& tile, const Numbers& n) {
  const int tile_bytes = n.block_size * HEAD * 2;
  const u8* keys = kv + n.layer_offset + tile.kv_head * tile_bytes;
  return {keys, keys + n.num_kv_heads * tile_bytes, blocks + tile.table, n.page_bytes, n.block_size};
}

// Sends for the keys or values (`page_0` is one of the source's pointers) of a chunk; positions outside begin..end become zeros.
template <int HEAD>
__device__ __forceinline__ void fetch(u16 (*to)[Shape<HEAD>::STRIDE], const u8* page_0, const Source& source, int first,
                                      int begin, int end) {
  constexpr int EACH = ATTENTION_THREADS / Shape<HEAD>::CHUNK;
  const int row = threadIdx.x / EACH, position = first + row;
  const bool inside = position >= begin && position < end;
  const u8* from = page_0;
  if (inside) {
    from += i64(source.blocks[position / source.block_size]) * source.page_bytes +
            position % source.block_size * HEAD * 2;
  }
#pragma unroll
  for (int i = threadIdx.x % EACH; i < Shape<HEAD>::DIMS / 8; i += EACH) {
    // Where nothing is present nothing is read, wherever the address leads.
    copy_async(&to[row][i * 8], from + i * 16, inside && (HEAD % 16 == 0 || i < HEAD / 8));
  }
}

}  // namespace kv::attention
