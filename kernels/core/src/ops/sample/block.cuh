// What the steps of a block share: memory, reductions, counts in order.
#pragma once
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

namespace kv::sample {


constexpr int THREADS = SAMPLE_THREADS;
constexpr int WARPS = THREADS / 32;
// Weights that are summed in f32, in LANES sums, before f64 takes over.
constexpr int CHUNK = 256;
constexpr int LANES = 16;

// What a block has for itself.
struct Scratch {
  u64* keys;     // a power of two of them, at least `width`
  u32* ids;      // `width`
  double* sums;  // one a chunk
};

struct Shared {
  u32 counts[WARPS];
  float floats[WARPS];
  double doubles[WARPS];
  u32 histogram[256];
  float weights[CHUNK];
  u32 word, need;
  double number, before;
};

__device__ __forceinline__ float block_max(Shared& shared, float x) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.floats[threadIdx.x / 32] = x;
  __syncthreads();
  for (int warp = 0; warp < WARPS; warp++) x = fmaxf(x, shared.floats[warp]);
  return x;
}

__device__ __forceinline__ float row_max(Shared& shared, const float* row, int width) {
  float max = minus_infinity();
  for (int i = threadIdx.x; i < width; i += THREADS) max = fmaxf(max, row[i]);  // fmaxf passes over NaN
  return block_max(shared, max);
}

// How many flags are set before the thread's own, and (in `all`) in all.
__device__ __forceinline__ u32 block_scan(Shared& shared, bool flag, u32& all) {
  const u32 set = __ballot_sync(ALL_LANES, flag);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.counts[threadIdx.x / 32] = __popc(set);
  __syncthreads();
  u32 before = __popc(set & ((1u << threadIdx.x % 32) - 1u));
  all = 0;
  for (u32 warp = 0; warp < WARPS; warp++) {
    if (warp < threadIdx.x / 32) before += shared.counts[warp];
    all += shared.counts[warp];
  }
  return before;
}

__device__ __forceinline__ u32 block_count(Shared& shared, u32 count) {
#pragma unroll
  for (int far = 16; far > 0; far /= 2) count += __shfl_xor_sync(ALL_LANES, count, far);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.counts[threadIdx.x / 32] = count;
  __syncthreads();
  u32 all = 0;
  for (int warp = 0; warp < WARPS; warp++) all += shared.counts[warp];
  return all;
}

}  // namespace kv::sample
