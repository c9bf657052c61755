// Keys and values of tokens to their slots, rounded to f16, and pages from place to place. A page is
// `[layer of the group][K|V][head][block_size][head_dim]`; `layer_offset` is in bytes.
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

// `slots[t]` is block * block_size + place in the block; -1: a row of padding. Grid (rows), ELEMENT_THREADS.
extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    store_kv_f16(kv::u8* __restrict__ kv_pages, const float* __restrict__ qkv, const int* __restrict__ slots,
                 int page_bytes, int layer_offset, int block_size, int num_heads, int num_kv_heads, int head_dim) {
  const int slot = slots[blockIdx.x];
  if (slot < 0) return;
  const int width = num_kv_heads * head_dim;
  const float* x = qkv + kv::i64(blockIdx.x) * (num_heads * head_dim + 2 * width) + num_heads * head_dim;
  kv::u16* page = reinterpret_cast<kv::u16*>(kv_pages + kv::i64(slot / block_size) * page_bytes + layer_offset);
  for (int i = threadIdx.x; i < 2 * width; i += kv::ELEMENT_THREADS) {
    // Keys and values are neighbours both in the row and in the page: `i / head_dim` counts their heads through.
    const int tile = i / head_dim * block_size + slot % block_size;
    page[tile * head_dim + i % head_dim] = kv::float_to_half(x[i]);
  }
}
KV_KERNEL(store_kv_f16)

// Page `pairs[2i]` of `from` to page `pairs[2i + 1]` of `to`; `page_bytes` is a multiple of 64.
// Grid (pairs, any), ELEMENT_THREADS.
extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    copy_pages(kv::u8* to, const kv::u8* from, const int* __restrict__ pairs, int page_bytes) {
  const uint4* source = reinterpret_cast<const uint4*>(from + kv::i64(pairs[2 * blockIdx.x]) * page_bytes);
  uint4* target = reinterpret_cast<uint4*>(to + kv::i64(pairs[2 * blockIdx.x + 1]) * page_bytes);
  const int step = gridDim.y * kv::ELEMENT_THREADS;
  for (int i = blockIdx.y * kv::ELEMENT_THREADS + threadIdx.x; i < page_bytes / 16; i += step) target[i] = source[i];
}
KV_KERNEL(copy_pages)
