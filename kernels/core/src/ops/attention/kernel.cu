// Causal attention over paged KV on tensor cores. A block has the query heads of one KV head for the tokens of a tile
// (`backend/cuda/kernels.rs`); its rows are (token, head) pairs. Positions are cut at absolute multiples of SPLIT: each split is
// a softmax of its own with a running maximum over chunks, and splits are merged in ascending order. Queries and the
// softmax's weights are rounded to f16, sums are f32. A row's bits depend neither on the rows beside it nor on who merges: a
// chunk of which it sees nothing adds zeros to what it has.
#include "narrow.cuh"
#include "wide.cuh"

namespace kv::attention {

// The rows of the block's tile, `most` at a time: `each(tile)` for those.
template <class Each>
__device__ __forceinline__ void each_rows(const int* tiles, const Numbers& n, int most, Each each) {
  const int4 words = reinterpret_cast<const int4*>(tiles)[blockIdx.x];
  const int group = n.num_heads / n.num_kv_heads, all = words.y * group;
  for (int first = 0; first < all; first += most)
    each(Tile{words.x, words.z, words.w, int(blockIdx.y), group, first, min(most, all - first)});
}

template <int HEAD>
__device__ __forceinline__ void whole(float* out, const float* __restrict__ qkv, const u8* __restrict__ kv,
                                      const int* __restrict__ tiles, const int* __restrict__ blocks, const Numbers& n) {
  if constexpr (HEAD <= 128) {
    // One of the two ways runs.
    constexpr int BYTES = sizeof(Shared<HEAD>) > sizeof(WideShared<HEAD>) ? sizeof(Shared<HEAD>) : sizeof(WideShared<HEAD>);
    __shared__ __align__(16) u8 memory[BYTES];
    const int rows = reinterpret_cast<const int4*>(tiles)[blockIdx.x].y * (n.num_heads / n.num_kv_heads);
    if (rows > ROWS) {
      each_rows(tiles, n, WIDE_ROWS, [&](const Tile& tile) {
        whole_wide(*reinterpret_cast<WideShared<HEAD>*>(memory), out, qkv, kv, blocks, tile, n);
      });
      return;
    }
    each_rows(tiles, n, ROWS, [&](const Tile& tile) {
      whole_narrow(*reinterpret_cast<Shared<HEAD>*>(memory), out, qkv, kv, blocks, tile, n);
    });
  } else {
    __shared__ Shared<HEAD> shared;
    each_rows(tiles, n, ROWS, [&](const Tile& tile) { whole_narrow(shared, out, qkv, kv, blocks, tile, n); });
  }
}

template <int HEAD>
__device__ __forceinline__ void one_split(float* __restrict__ partials, float* __restrict__ statistics,
                                          const float* __restrict__ qkv, const u8* __restrict__ kv,
                                          const int* __restrict__ tiles, const int* __restrict__ blocks, const Numbers& n) {
  __shared__ Shared<HEAD> shared;
  const int split = blockIdx.z;
  each_rows(tiles, n, ROWS, [&](const Tile& tile) {
    if (split * SPLIT >= tile.to(tile.rows - 1) || (split + 1) * SPLIT <= tile.from(0, n.window)) return;
    load_queries<HEAD, ROWS>(shared.queries, qkv, tile, n);
    NarrowState<HEAD> part;
    attend<HEAD>(shared, part, source_of<HEAD>(kv, blocks, tile, n), tile, n, split);
    each_pair<HEAD>(part, [&](int half, int column, float low, float high) {
      const int row = threadIdx.x % 32 / 4 + 8 * half;
      if (row >= tile.rows || part.most[half] == minus_infinity()) return;
      const i64 place = tile.place(row, n.num_heads) * gridDim.z + split;
      *reinterpret_cast<float2*>(partials + place * HEAD + column) = make_float2(low, high);
      if (column == 0) {
        statistics[place * 2] = part.most[half];
        statistics[place * 2 + 1] = part.sum[half];
      }
    });
  });
}

template <int HEAD>
__device__ __forceinline__ void merge(float* __restrict__ out, const float* __restrict__ partials,
                                      const float* __restrict__ statistics, const int* __restrict__ positions,
                                      int num_heads, int window, int splits) {
  const int d = threadIdx.x, to = positions[blockIdx.x] + 1;
  if (d >= HEAD) return;
  const int from = window > 0 ? max(0, to - window) : 0;
  const i64 place = i64(blockIdx.x) * num_heads + blockIdx.y;
  float total = 0.0f, most = minus_infinity(), sum = 0.0f;
  for (int split = from / SPLIT; split <= (to - 1) / SPLIT; split++) {
    const i64 at = place * splits + split;
    float by, part_by;
    factors(most, statistics[at * 2], by, part_by);
    sum = fmaf(statistics[at * 2 + 1], part_by, sum * by);
    total = fmaf(partials[at * HEAD + d], part_by, total * by);
  }
  out[place * HEAD + d] = total / sum;
}

}  // namespace kv::attention

// Grid (tiles, num_kv_heads), (tiles, num_kv_heads, splits) and (rows, num_heads).
#define KV_ATTENTION(HEAD)                                                                                              \
  extern "C" __global__ void __launch_bounds__(kv::ATTENTION_THREADS, HEAD > 64 ? 2 : 3)                                \
      attention_hs##HEAD(float* out, const float* qkv, const kv::u8* kv_pages, const int* tiles, const int* blocks,     \
                         int page_bytes, int layer_offset, int block_size, int num_heads, int num_kv_heads, int window, \
                         float scale, float soft_cap) {                                                                 \
    kv::attention::whole<HEAD>(out, qkv, kv_pages, tiles, blocks,                                                       \
                               {page_bytes, layer_offset, block_size, num_heads, num_kv_heads, window, scale,           \
                                soft_cap});                                                                             \
  }                                                                                                                     \
  KV_KERNEL(attention_hs##HEAD)                                                                                         \
  extern "C" __global__ void __launch_bounds__(kv::ATTENTION_THREADS, HEAD > 128 ? 2 : HEAD > 64 ? 4 : 5)               \
      attention_split_hs##HEAD(float* partials, float* statistics, const float* qkv, const kv::u8* kv_pages,            \
                               const int* tiles, const int* blocks, int page_bytes, int layer_offset, int block_size,   \
                               int num_heads, int num_kv_heads, int window, float scale, float soft_cap) {              \
    kv::attention::one_split<HEAD>(partials, statistics, qkv, kv_pages, tiles, blocks,                                  \
                                   {page_bytes, layer_offset, block_size, num_heads, num_kv_heads, window, scale,       \
                                    soft_cap});                                                                         \
  }                                                                                                                     \
  KV_KERNEL(attention_split_hs##HEAD)                                                                                   \
  extern "C" __global__ void __launch_bounds__((HEAD + 31) / 32 * 32)                                                   \
      attention_merge_hs##HEAD(float* out, const float* partials, const float* statistics, const int* positions,        \
                               int num_heads, int window, int splits) {                                                 \
    kv::attention::merge<HEAD>(out, partials, statistics, positions, num_heads, window, splits);                        \
  }                                                                                                                     \
  KV_KERNEL(attention_merge_hs##HEAD)
KV_ATTENTION(16)
KV_ATTENTION(32)
KV_ATTENTION(40)
KV_ATTENTION(64)
KV_ATTENTION(80)
KV_ATTENTION(96)
KV_ATTENTION(128)
KV_ATTENTION(256)
