// Quantised weights as linears load them.
#pragma once
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"
#include "../../cuda/weights.cuh"

namespace kv::linear {

constexpr int WARPS = LINEAR_THREADS / 32;

// A block of a weight row, as loaded.
template <class Format>
struct Held {
  uint4 numbers[Format::bits / 4];
  float scales[Format::halves ? 2 : 1];
  float minimum;
};

template <class Format>
struct Weights {
  const uint4* numbers;
  const void* scales;
  const void* minima;

  __device__ __forceinline__ Held<Format> load(i64 at) const {
    Held<Format> held;
#pragma unroll
    for (int i = 0; i < Format::bits / 4; i++) held.numbers[i] = numbers[at * (Format::bits / 4) + i];
#pragma unroll
    for (int i = 0; i < (Format::halves ? 2 : 1); i++)
      held.scales[i] = factor<Format>(scales, Format::halves ? 2 * at + i : at);
    held.minimum = Format::minimum ? factor<Format>(minima, at) : 0.0f;
    return held;
  }
};

}  // namespace kv::linear
