// Picks tokens from rows of logits, as `ops/sample/mod.rs` defines it: the same tokens to the bit, since what decides is basic f32
// and f64 operations in the same order. Logarithms are left to the host. A block works on a sample at a time, in steps that
// end at a barrier; whatever depends on an order is done by chunks or by one thread.
#include "filter.cuh"

namespace kv::sample {

// What the host needs of a row; 32 bytes. The log-probability of a logit is `logit - max - ln(total)`.
struct Answer {
  // Sum of e^(logit - max) of the raw row; the number of infinite logits where there are any.
  double total;
  // Of the raw row: the maximum, and the token's logit.
  float max, logit;
  int token, rank;
  double unused;
};

// The lowest id whose logit is the maximum.
__device__ __forceinline__ int first_max(Shared& shared, const float* row, int width, float max) {
  __syncthreads();
  if (threadIdx.x == 0) shared.word = 0xFFFFFFFFu;
  __syncthreads();
  for (int i = threadIdx.x; i < width; i += THREADS)
    if (row[i] == max) {
      atomicMin(&shared.word, u32(i));
      break;
    }
  __syncthreads();
  return int(shared.word);
}

__device__ __forceinline__ int pick(Shared& shared, const Scratch& scratch, const Wish& wish, const float* row, int width,
                                    float max) {
  if (max == minus_infinity()) return wish.fallback;
  if (wish.scale == 0.0f || max == -minus_infinity()) return first_max(shared, row, width, max);
  const Weights all{row, nullptr, max, wish.scale};
  if ((wish.top_k == 0 || wish.top_k >= width) && wish.min_p == 0.0f && wish.top_p >= 1.0)
    return draw(shared, all, width, wish.uniform, scratch.sums);
  const int count = filter(shared, scratch, wish, all, width);
  return draw(shared, {row, scratch.ids, max, wish.scale}, count, wish.uniform, scratch.sums);
}

}  // namespace kv::sample

// `answers[i]` and the list of the most probable tokens, `tops[i][most_top]` pairs of id and logit (as bits), of each sample.
// Scratch of each block: `keys` has the power of two from `width` on, `ids` has `width`, `sums` one a chunk of 256 columns.
// `adjusted` has the rows of `sample_adjust_f32`. Grid (any), SAMPLE_THREADS.
extern "C" __global__ void __launch_bounds__(kv::SAMPLE_THREADS, 1)
    sample_f32(kv::sample::Answer* __restrict__ answers, uint2* __restrict__ tops, kv::u64* keys, kv::u32* ids, double* sums,
               const float* __restrict__ logits, const float* __restrict__ adjusted,
               const kv::sample::Wish* __restrict__ wishes, int samples, int width, int most_top) {
  using namespace kv::sample;
  __shared__ Shared shared;
  kv::i64 power = 1;
  while (power < width) power *= 2;
  const Scratch scratch{keys + blockIdx.x * power, ids + kv::i64(blockIdx.x) * width,
                        sums + kv::i64(blockIdx.x) * ((width + CHUNK - 1) / CHUNK)};
  for (int sample = blockIdx.x; sample < samples; sample += gridDim.x) {
    const Wish wish = wishes[sample];
    const float* raw = logits + kv::i64(sample) * width;
    const float* row = wish.adjusted ? adjusted + kv::i64(sample) * width : raw;
    const float max = row_max(shared, raw, width), infinity = -kv::minus_infinity();
    const int token =
        wish.target >= 0 ? wish.target
                         : pick(shared, scratch, wish, row, width, wish.adjusted ? row_max(shared, row, width) : max);
    const float logit = value(raw[token]);
    double total = 0.0;
    if (max == infinity) {
      kv::u32 count = 0;
      for (int i = threadIdx.x; i < width; i += THREADS) count += raw[i] == max;
      total = double(block_count(shared, count));
    } else if (max > -infinity) {
      total = total_weight(shared, {raw, nullptr, max, 1.0f}, width, scratch.sums);
    }
    kv::u32 before = 0;
    if (wish.top >= 0) {
      for (int i = threadIdx.x; i < width; i += THREADS)
        before += value(raw[i]) > logit || (i < token && value(raw[i]) == logit);
      before = block_count(shared, before) + 1;
    }
    if (threadIdx.x == 0) answers[sample] = {total, max, logit, token, int(before), 0.0};
    const int top = min(min(wish.top, most_top), width);
    if (top > 0) {
      const auto key = [&](int i, kv::u32& k) {
        k = ordered(value(raw[i]));
        return true;
      };
      const int count = keep_largest(shared, width, kv::u32(top), scratch.ids, key, [](int) { return true; });
      sort_ids(scratch, count, key);
      for (int i = threadIdx.x; i < count; i += THREADS) {
        const kv::u32 id = ~kv::u32(scratch.keys[i]);
        tops[kv::i64(sample) * most_top + i] = make_uint2(id, __float_as_uint(raw[id]));
      }
    }
    __syncthreads();
  }
}
KV_KERNEL(sample_f32)

// What a seat does to its row before a pick (`ops/sample/adjust.rs`). `edits` are (id, x, y, z), the last three as bits of f32;
// those of sample i lie from `starts[5i]` to `starts[5i + 4]`, with three cuts between: ids that alone are allowed (none: all
// are), ids that are forbidden, biases x, and penalties: repetition x, then what frequency y and presence z take away. A row
// without edits is left alone. Grid (samples), SAMPLE_THREADS.
extern "C" __global__ void __launch_bounds__(kv::SAMPLE_THREADS)
    sample_adjust_f32(float* __restrict__ adjusted, const float* __restrict__ logits, const int4* __restrict__ edits,
                      const int* __restrict__ starts, int width) {
  const int* cuts = starts + 5 * blockIdx.x;
  const int allowed = cuts[0], forbidden = cuts[1], biases = cuts[2], penalties = cuts[3], end = cuts[4];
  if (allowed == end) return;
  const float* from = logits + kv::i64(blockIdx.x) * width;
  float* to = adjusted + kv::i64(blockIdx.x) * width;
  const bool all = allowed == forbidden;
  for (int i = threadIdx.x; i < width; i += kv::SAMPLE_THREADS) to[i] = all ? from[i] : kv::minus_infinity();
  __syncthreads();
  for (int i = allowed + threadIdx.x; i < forbidden; i += kv::SAMPLE_THREADS) to[edits[i].x] = from[edits[i].x];
  __syncthreads();
  for (int i = forbidden + threadIdx.x; i < biases; i += kv::SAMPLE_THREADS) to[edits[i].x] = kv::minus_infinity();
  __syncthreads();
  // One after the other: an id may come twice.
  if (threadIdx.x == 0)
    for (int i = biases; i < penalties; i++) to[edits[i].x] += __int_as_float(edits[i].y);
  __syncthreads();
  for (int i = penalties + threadIdx.x; i < end; i += kv::SAMPLE_THREADS) {
    const int4 edit = edits[i];
    const float logit = to[edit.x], repetition = __int_as_float(edit.y);
    const float repeated = logit > 0.0f ? logit / repetition : logit * repetition;
    to[edit.x] = repeated - __int_as_float(edit.z) - __int_as_float(edit.w);
  }
}
KV_KERNEL(sample_adjust_f32)
