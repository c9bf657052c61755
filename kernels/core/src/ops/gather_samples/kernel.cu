// `out[i] = x[samples[i]]`. Grid (samples), ELEMENT_THREADS.
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    gather_rows_f32(float* __restrict__ out, const float* __restrict__ x, const int* __restrict__ samples, int width) {
  out += kv::i64(blockIdx.x) * width;
  x += kv::i64(samples[blockIdx.x]) * width;
  for (int i = threadIdx.x; i < width; i += kv::ELEMENT_THREADS) out[i] = x[i];
}
KV_KERNEL(gather_rows_f32)
