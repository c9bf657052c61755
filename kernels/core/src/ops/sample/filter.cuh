// Which tokens stay: the largest, found without sorting the row, and the nucleus of these.
#pragma once
#include "weights.cuh"

namespace kv::sample {

// What is asked of a sample; 48 bytes.
struct Wish {
  // In 0..1, and the share of the nucleus.
  double uniform, top_p;
  // One by the temperature; 0 = greedy, also for temperatures so low that it is infinite.
  float scale;
  float min_p;
  // 0 = all.
  int top_k;
  // The token to report, or -1: pick one.
  int target;
  // What is picked where no logit is a number.
  int fallback;
  // Length of the list of the most probable tokens; -1 = none, nor the rank.
  int top;
  // Whether the row has been adjusted.
  int adjusted;
  int unused;
};

// The `count`th largest key of a row by `key(i)`, byte by byte; `need` of those equal to it belong to the first `count`.
template <class Key>
__device__ __forceinline__ u32 nth_largest(Shared& shared, int width, u32 count, Key key, u32& need) {
  u32 prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += THREADS) shared.histogram[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < width; i += THREADS) {
      u32 k;
      if (key(i, k) && (k & mask) == prefix) atomicAdd(&shared.histogram[k >> shift & 255u], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      u32 byte = 255;
      while (byte > 0 && shared.histogram[byte] < count) count -= shared.histogram[byte--];
      shared.word = byte;
      shared.need = count;
    }
    __syncthreads();
    prefix |= shared.word << shift;
    mask |= 255u << shift;
    count = shared.need;
  }
  need = count;
  return prefix;
}

// Writes the elements of 0..count that pass, in order; answers their number. `keep(i, id)` says what an element is called, and
// may read what is overwritten for elements up to and with its own.
template <class Keep>
__device__ __forceinline__ int compact(Shared& shared, int count, u32* ids, Keep keep) {
  u32 kept = 0;
  for (int first = 0; first < count; first += THREADS) {
    const int i = first + threadIdx.x;
    u32 id = 0, all;
    const bool flag = keep(i, id);
    const u32 before = block_scan(shared, flag, all);
    if (flag) ids[kept + before] = id;
    kept += all;
  }
  __syncthreads();
  return int(kept);
}

// Keeps the ids whose `key` is among the `count` largest of all, lower ids first among equals, and that pass `also`.
template <class Key, class Also>
__device__ __forceinline__ int keep_largest(Shared& shared, int width, u32 count, u32* ids, Key key, Also also) {
  u32 need;
  const u32 least = nth_largest(shared, width, count, key, need);
  u32 equals = 0;
  return compact(shared, width, ids, [&](int i, u32& id) {
    u32 k = 0, all;
    const bool there = i < width && key(i, k);
    const u32 before = equals + block_scan(shared, there && k == least, all);
    equals += all;
    id = u32(i);
    return there && (k > least || (k == least && before < need)) && also(i);
  });
}

// Sorts `count` keys, a power of two, largest first (bitonic).
__device__ __forceinline__ void sort(u64* keys, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < count / 2; i += THREADS) {
        const int low = i / step * 2 * step + i % step, high = low + step;
        const bool descending = (low & size) == 0;
        const u64 a = keys[low], b = keys[high];
        if ((a < b) == descending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

// Sorts ids by logit, lower ids first among equals, into `scratch.keys`: the key in the upper half, the id's complement below.
template <class Key>
__device__ __forceinline__ void sort_ids(const Scratch& scratch, int count, Key key) {
  int size = 1;
  while (size < count) size *= 2;
  for (int i = threadIdx.x; i < size; i += THREADS) {
    u32 k = 0;
    if (i < count) key(int(scratch.ids[i]), k);
    scratch.keys[i] = i < count ? u64(k) << 32 | u32(~scratch.ids[i]) : 0;
  }
  sort(scratch.keys, size);
}

// min-p, top-k and top-p: the ids that stay, ascending, in `scratch.ids`; answers their number.
__device__ __forceinline__ int filter(Shared& shared, const Scratch& scratch, const Wish& wish, const Weights& all, int width) {
  const auto key = [&](int i, u32& k) {
    const float logit = all.row[i];
    k = ordered(logit);
    return logit == logit;
  };
  const auto heavy = [&](int i) { return wish.min_p == 0.0f || all(i) >= wish.min_p; };
  const Weights some{all.row, scratch.ids, all.max, all.scale};
  int count;
  double wanted;
  if (wish.top_k > 0 && wish.top_k < width) {
    count = keep_largest(shared, width, u32(wish.top_k), scratch.ids, key, heavy);
    wanted = wish.top_p * sum_weights(shared, some, count);
  } else if (wish.min_p > 0.0f) {
    count = compact(shared, width, scratch.ids, [&](int i, u32& id) {
      id = u32(i);
      return i < width && heavy(i);
    });
    wanted = wish.top_p * sum_weights(shared, some, count);
  } else {
    const double total = total_weight(shared, all, width, scratch.sums);
    wanted = wish.top_p * total;
    // Heaviest tokens first. All below the last of these weights weigh together less than what the nucleus leaves out.
    count = 0;
#pragma unroll 1
    for (int i = 0; i < 3; i++) {
      const float least = i == 0 ? 1e-2f : i == 1 ? 1e-4f : float((1.0 - wish.top_p) * total / width);
      // A logit that every token of this weight reaches: rounding must not drop what an exact test would keep.
      const float bound = all.max + (logf(least) - 1e-3f) / all.scale;
      count = compact(shared, width, scratch.ids, [&](int j, u32& id) {
        id = u32(j);
        return j < width && all.row[j] >= bound;
      });
      if (sum_weights(shared, some, count) >= wanted) break;
    }
  }
  if (wish.top_p >= 1.0 || count == 0) return count;
  sort_ids(scratch, count, key);
  if (threadIdx.x == 0) {
    double weight = 0.0;
    int kept = 0;
    while (kept < count) {
      weight += double(all.weight_of(logit_of(u32(scratch.keys[kept] >> 32))));
      kept++;
      if (weight >= wanted) break;
    }
    shared.word = u32(kept);
  }
  __syncthreads();
  const u64 last = scratch.keys[shared.word - 1];
  return compact(shared, count, scratch.ids, [&](int i, u32& id) {
    if (i >= count) return false;
    id = scratch.ids[i];
    return (u64(ordered(all.row[id])) << 32 | u32(~id)) >= last;
  });
}

}  // namespace kv::sample
