// Token ids to rows of the embedding matrix: `out[t] = table[tokens[t]]`. Grid (rows), ELEMENT_THREADS.
#include "../../cuda/launch.cuh"
#include "../../cuda/weights.cuh"

namespace kv::embed {

template <class Format>
__device__ __forceinline__ void quantised(float* __restrict__ out, const u8* __restrict__ numbers, const void* scales,
                                          const void* minima, const int* __restrict__ tokens, int width) {
  const int row = tokens[blockIdx.x], blocks = width / BLOCK;
  out += i64(blockIdx.x) * width;
  for (int column = threadIdx.x; column < width; column += ELEMENT_THREADS) {
    const i64 at = block_index(row, column / BLOCK, blocks);
    const int c = column % BLOCK;
    int number;
    if constexpr (Format::bits == 4) {
      number = (numbers[at * 16 + c / 8 * 4 + c % 4] >> (c / 4 % 2 * 4) & 15) - Format::zero;
    } else {
      number = i8(numbers[at * BLOCK + c]);
    }
    const float scale = factor<Format>(scales, Format::halves ? 2 * at + c / 16 : at);
    float value = scale * float(number);
    if constexpr (Format::minimum) value += factor<Format>(minima, at);
    out[column] = value;
  }
}

template <class Element, class Convert>
__device__ __forceinline__ void plain(float* __restrict__ out, const Element* __restrict__ table,
                                      const int* __restrict__ tokens, int width, Convert convert) {
  out += i64(blockIdx.x) * width;
  table += i64(tokens[blockIdx.x]) * width;
  for (int column = threadIdx.x; column < width; column += ELEMENT_THREADS) out[column] = convert(table[column]);
}

}  // namespace kv::embed

#define KV_EMBED(name, Format)                                                                                   \
  extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)                                              \
      embed_##name(float* out, const kv::u8* numbers, const void* scales, const void* minima, const int* tokens, \
                   int width) {                                                                                  \
    kv::embed::quantised<kv::Format>(out, numbers, scales, minima, tokens, width);                               \
  }                                                                                                              \
  KV_KERNEL(embed_##name)
KV_EMBED(q4_0, Q4_0)
KV_EMBED(q4_1, Q4_1)
KV_EMBED(q8_0, Q8_0)
KV_EMBED(q5_1, Q5_1)
KV_EMBED(q4_k, Q4_K)
KV_EMBED(q5_k, Q5_K)
KV_EMBED(q6_k, Q6_K)

#define KV_EMBED_PLAIN(name, Element, convert)                                                                      \
  extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)                                                 \
      embed_##name(float* out, const Element* numbers, const void*, const void*, const int* tokens, int width) {    \
    kv::embed::plain(out, numbers, tokens, width, [](Element x) -> float { return convert; });                      \
  }                                                                                                                 \
  KV_KERNEL(embed_##name)
KV_EMBED_PLAIN(f32, float, x)
KV_EMBED_PLAIN(f16, kv::u16, kv::half_to_float(x))
KV_EMBED_PLAIN(bf16, kv::u16, kv::bfloat_to_float(x))
