// `out = x + y`; `out` may be one of them. Grid (count / ELEMENT_THREADS), ELEMENT_THREADS.
#include "../../cuda/device.cuh"
#include "../../cuda/launch.cuh"

extern "C" __global__ void __launch_bounds__(kv::ELEMENT_THREADS)
    add_f32(float* out, const float* x, const float* y, int count) {
  const kv::i64 i = kv::i64(blockIdx.x) * kv::ELEMENT_THREADS + threadIdx.x;
  if (i < count) out[i] = x[i] + y[i];
}
KV_KERNEL(add_f32)
