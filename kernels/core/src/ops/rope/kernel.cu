// Rotates the first `num_heads` heads of each row by the token's position and copies the other columns; `out` may be `x`.
// `angles` is `[position][sine | cosine][dims / 2]`. Grid (rows), ELEMENT_THREADS.
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

namespace kv::rope {

template <bool INTERLEAVED>
__device__ __forceinline__ void row(float* out, const float* x, const float* __restrict__ angles,
                                    const int* __restrict__ positions, int num_heads, int head_dim, int dims, int width) {
  const i64 row = i64(blockIdx.x) * width;
  const int pairs = dims / 2;
  const float* sines = angles + i64(positions[blockIdx.x]) * dims;
  const float* cosines = sines + pairs;
  for (int i = threadIdx.x; i < num_heads * pairs; i += ELEMENT_THREADS) {
    const int head = i / pairs, pair = i % pairs;
    const i64 a = row + head * head_dim + (INTERLEAVED ? 2 * pair : pair);
    const i64 b = a + (INTERLEAVED ? 1 : pairs);
    const float low = x[a], high = x[b], sine = sines[pair], cosine = cosines[pair];
    out[a] = low * cosine - high * sine;
    out[b] = low * sine + high * cosine;
  }
  if (out == x) return;
  for (int i = threadIdx.x; i < width; i += ELEMENT_THREADS)
    if (i >= num_heads * head_dim || i % head_dim >= dims) out[row + i] = x[row + i];
}

}  // namespace kv::rope

// The same, and each row's K and V, rounded to f16, to its slot, as `store_kv_f16` does: `num_heads` are the query heads, and the
// rotated ones are those and the KV heads behind them. Only query heads are written to `out`.
namespace kv::rope {

template <bool INTERLEAVED>
__device__ __forceinline__ void row_and_store(float* out, u8* __restrict__ kv_pages, const float* x,
                                              const float* __restrict__ angles, const int* __restrict__ positions,
                                              const int* __restrict__ slots, int page_bytes, int layer_offset,
                                              int block_size, int num_heads, int num_kv_heads, int head_dim, int dims) {
  const int slot = slots[blockIdx.x], pairs = dims / 2;
  const i64 row = i64(blockIdx.x) * (num_heads + 2 * num_kv_heads) * head_dim;
  const float* sines = angles + i64(positions[blockIdx.x]) * dims;
  u16* page = reinterpret_cast<u16*>(kv_pages + i64(max(slot, 0) / block_size) * page_bytes + layer_offset);
  const auto put = [&](int head, int d, float value) {
    if (head < num_heads) out[row + head * head_dim + d] = value;
    else if (slot >= 0) page[((head - num_heads) * block_size + slot % block_size) * head_dim + d] = float_to_half(value);
  };
  // The rotated pairs of query and key heads.
  for (int i = threadIdx.x; i < (num_heads + num_kv_heads) * pairs; i += ELEMENT_THREADS) {
    const int head = i / pairs, pair = i % pairs;
    const int a = INTERLEAVED ? 2 * pair : pair, b = a + (INTERLEAVED ? 1 : pairs);
    const float low = x[row + head * head_dim + a], high = x[row + head * head_dim + b];
    const float sine = sines[pair], cosine = sines[pairs + pair];
    put(head, a, low * cosine - high * sine);
    put(head, b, low * sine + high * cosine);
  }
  // What is not rotated of them, and the values.
  for (int i = threadIdx.x; i < (num_heads + 2 * num_kv_heads) * head_dim; i += ELEMENT_THREADS) {
    const int head = i / head_dim, d = i % head_dim;
    if (head >= num_heads + num_kv_heads || d >= dims) put(head, d, x[row + i]);
  }
}

}  // namespace kv::rope

#define KV_ROPE(name, INTERLEAVED)                                                                        \
  extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)                                       \
      rope_##name##_f32(float* out, const float* x, const float* angles, const int* positions,            \
                        int num_heads, int head_dim, int dims, int width) {                               \
    kv::rope::row<INTERLEAVED>(out, x, angles, positions, num_heads, head_dim, dims, width);              \
  }                                                                                                       \
  KV_KERNEL(rope_##name##_f32)                                                                            \
  extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)                                       \
      rope_##name##_store_f16(float* out, kv::u8* kv_pages, const float* x, const float* angles,          \
                              const int* positions, const int* slots, int page_bytes, int layer_offset,   \
                              int block_size, int num_heads, int num_kv_heads, int head_dim, int dims) {  \
    kv::rope::row_and_store<INTERLEAVED>(out, kv_pages, x, angles, positions, slots, page_bytes,          \
                                         layer_offset, block_size, num_heads, num_kv_heads, head_dim, dims); \
  }                                                                                                       \
  KV_KERNEL(rope_##name##_store_f16)
KV_ROPE(interleaved, true)
KV_ROPE(halves, false)
