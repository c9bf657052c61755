// Weights of tokens and how one is drawn by them.
#pragma once
#include "block.cuh"

namespace kv::sample {

// A logit as it is compared: NaN is minus infinity, and there is one zero.
__device__ __forceinline__ float value(float logit) { return logit != logit ? minus_infinity() : logit + 0.0f; }

// Ascending with the logit, by IEEE's total order.
__device__ __forceinline__ u32 ordered(float logit) {
  const u32 bits = __float_as_uint(logit);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float logit_of(u32 key) {
  return __uint_as_float(key >> 31 ? key & 0x7FFFFFFFu : ~key);
}

// e^x for x up to 0, as `vector.rs` has it, to the bit.
__device__ __forceinline__ float exponential(float x) {
  const float rounding = 12582912.0f;  // adding and subtracting 1.5 * 2^23 rounds to an integer
  const float shifted = x * 1.44269504088896341f + rounding;
  const float n = shifted - rounding;
  const float r = x - n * 0.6933594f - n * -2.1219444e-4f;
  float p = 1.9875691e-4f;
  p = p * r + 1.3981999e-3f;
  p = p * r + 8.333452e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 0.5f;
  const float mantissa = p * r * r + r + 1.0f;
  const float power = __uint_as_float((__float_as_uint(shifted) + 127u) << 23);
  return x >= -87.0f ? mantissa * power : 0.0f;
}

// A row with its maximum and temperature; of all tokens or, with `ids`, of some.
struct Weights {
  const float* row;
  const u32* ids;
  float max, scale;

  __device__ __forceinline__ u32 id(int i) const { return ids ? ids[i] : u32(i); }
  __device__ __forceinline__ float weight_of(float logit) const { return exponential((logit - max) * scale); }
  __device__ __forceinline__ float operator()(int i) const { return weight_of(row[id(i)]); }
};

// Sums of the chunks: LANES sums in f32, then those in ascending order in f64. Ends at a barrier.
__device__ __forceinline__ void sum_chunks(const Weights& weights, int count, double* sums) {
  const int lane = threadIdx.x % LANES, chunks = (count + CHUNK - 1) / CHUNK;
  for (int first = 0; first < chunks; first += THREADS / LANES) {
    const int chunk = first + threadIdx.x / LANES;
    float sum = 0.0f;
    for (int i = chunk * CHUNK + lane; i < min(count, (chunk + 1) * CHUNK); i += LANES) sum += weights(i);
    double all = 0.0;
#pragma unroll
    for (int i = 0; i < LANES; i++) all += double(__shfl_sync(ALL_LANES, sum, i, LANES));
    if (lane == 0 && chunk < chunks) sums[chunk] = all;
  }
  __syncthreads();
}

// The sum of all weights, chunk after chunk.
__device__ __forceinline__ double total_weight(Shared& shared, const Weights& weights, int count, double* sums) {
  sum_chunks(weights, count, sums);
  if (threadIdx.x == 0) {
    double total = 0.0;
    for (int chunk = 0; chunk < (count + CHUNK - 1) / CHUNK; chunk++) total += sums[chunk];
    shared.number = total;
  }
  __syncthreads();
  return shared.number;
}

// The element at which the running sum of weights passes `uniform` of their total; one of weight 0 is never picked.
__device__ __forceinline__ int draw(Shared& shared, const Weights& weights, int count, double uniform, double* sums) {
  const double target = uniform * total_weight(shared, weights, count, sums);
  const int chunks = (count + CHUNK - 1) / CHUNK;
  __syncthreads();
  if (threadIdx.x == 0) {
    double before = 0.0;
    u32 found = 0;
    for (int chunk = 0; chunk < chunks; chunk++) {
      if (sums[chunk] > 0.0) {
        // Rounding may leave the target at the very end of the last chunk that has weight.
        found = u32(chunk);
        shared.before = before;
        shared.need = target < before + sums[chunk];
        if (shared.need) break;
      }
      before += sums[chunk];
    }
    shared.word = found;
  }
  __syncthreads();
  const int first = int(shared.word) * CHUNK, end = min(CHUNK, count - first);
  for (int i = threadIdx.x; i < end; i += THREADS) shared.weights[i] = weights(first + i);
  __syncthreads();
  if (threadIdx.x == 0) {
    double left = target - shared.before;
    int last = 0;
    for (int i = 0; i < end; i++) {
      const float weight = shared.weights[i];
      if (weight > 0.0f) {
        last = i;
        if (shared.need && left < double(weight)) break;
      }
      left -= double(weight);
    }
    shared.word = weights.id(first + last);
  }
  __syncthreads();
  return int(shared.word);
}

// Sum in f64 of the weights, the same for every order of lanes that a launch may have.
__device__ __forceinline__ double sum_weights(Shared& shared, const Weights& weights, int count) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += double(weights(i));
#pragma unroll
  for (int far = 16; far > 0; far /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, far);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.doubles[threadIdx.x / 32] = sum;
  __syncthreads();
  double all = 0.0;
  for (int warp = 0; warp < WARPS; warp++) all += shared.doubles[warp];
  return all;
}

}  // namespace kv::sample
