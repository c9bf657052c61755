// Small kernels for the emulator's own tests: sound ones, and ones with a single mistake (`bad_...`) that must be named.
// All have the parameters (float* y, const float* x, int n), so that one launcher fits.
#define DEFINE(name)                                                                    \
    extern "C" __global__ void name(float* y, const float* x, int n);                   \
    CUEMU_KERNEL(name)                                                                  \
    extern "C" __global__ void name([[maybe_unused]] float* y, [[maybe_unused]] const float* x, [[maybe_unused]] int n)
#define SHARED(name) float* name = reinterpret_cast<float*>(cuemu::grid.dynamic_shared)

namespace {
__device__ __forceinline__ int global_thread() { return int(blockIdx.x * blockDim.x + threadIdx.x); }
}  // namespace

DEFINE(twice) {
    if (global_thread() < n) y[global_thread()] = 2.0f * x[global_thread()];
}
DEFINE(add_one) {
    if (global_thread() < n) y[global_thread()] += 1.0f;
}
DEFINE(reverse) {
    __shared__ float kept[128];
    kept[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = kept[127 - threadIdx.x];
}
DEFINE(sum_of_blocks) {
    if (threadIdx.x == 0) atomicAdd(y, x[blockIdx.x]);
}
DEFINE(sum_of_warp) { y[threadIdx.x] = cuemu::reduce(cuemu::Reduce::sum, x[threadIdx.x]); }
DEFINE(sum_by_shuffles) {
    float sum = x[threadIdx.x];
    for (int far = 16; far > 0; far /= 2) sum += __shfl_xor_sync(~0u, sum, far);
    y[threadIdx.x] = sum;
}
DEFINE(neighbours_in_a_warp) {
    __shared__ float kept[128];
    kept[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = kept[threadIdx.x ^ 1];
}
DEFINE(votes) {
    unsigned votes = __ballot_sync(~0u, x[threadIdx.x] > 0.0f);
    y[threadIdx.x] = float(__popc(votes));
}
DEFINE(shuffles) {
    float up = __shfl_up_sync(~0u, x[threadIdx.x], 1, 8), down = __shfl_down_sync(~0u, x[threadIdx.x], 2, 16);
    y[threadIdx.x] = up + 100.0f * down + 10000.0f * __shfl_sync(~0u, x[threadIdx.x], 3, 8);
}
DEFINE(half_the_block_leaves) {
    if (threadIdx.x >= 64) return;
    __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}
DEFINE(staged) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x + 4 * threadIdx.x, 16, 16);
    cuemu::copy_async_commit();
    cuemu::copy_async_wait(0);
    __syncthreads();
    for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = kept[4 * (blockDim.x - 1 - threadIdx.x) + i];
}
// One m16n8k16 product with fragments addressed as CuTe's MMA_Traits<SM80_16x8x16> has them: another wording of the ISA's. x is A
// (16x16) and then B (16x8), y is D (16x8), all with the first index fastest; whole numbers, so that no order of sums shows.
DEFINE(matrix_product) {
    int lane = int(threadIdx.x);
    const float *from_a = x, *from_b = x + 256;
    auto pair = [](float low, float high) { return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u); };
    uint32_t a[4], b[2];
    float d[4] = {};
    for (int i = 0; i < 4; i++) {
        int at = lane % 4 * 32 + lane / 4 + (i & 1) * 8 + (i >> 1) * 128;
        a[i] = pair(from_a[at], from_a[at + 16]);
    }
    for (int i = 0; i < 2; i++) {
        int at = lane % 4 * 16 + lane / 4 + i * 64;
        b[i] = pair(from_b[at], from_b[at + 8]);
    }
    cuemu::mma(cuemu::Mma::bf16_16x8x16, d, a, b, 1, 1);
    for (int i = 0; i < 4; i++) y[lane % 4 * 32 + lane / 4 + (i & 1) * 16 + (i >> 1) * 8] = d[i];
}

DEFINE(bad_no_barrier) {
    __shared__ float kept[128];
    kept[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = kept[127 - threadIdx.x];
}
DEFINE(bad_write_after_read) {
    __shared__ float kept[128];
    kept[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float other = kept[127 - threadIdx.x];
    kept[threadIdx.x] = other;
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x];
}
DEFINE(bad_no_syncwarp) {
    __shared__ float kept[128];
    kept[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = kept[threadIdx.x ^ 1];
}
DEFINE(bad_read_past_the_end) {
    if (threadIdx.x == 0) y[0] = x[n];
}
DEFINE(bad_write_past_the_end) {
    if (threadIdx.x == 0) y[n] = x[0];
}
DEFINE(bad_far_read) {
    if (threadIdx.x == 0) y[0] = x[100000000];
}
DEFINE(bad_shared_past_the_end) {
    SHARED(kept);
    kept[threadIdx.x + 1] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x + 1];
}
DEFINE(bad_own_array) {
    float own[4] = {};
    for (int i = 0; i <= n / 100; i++) own[i] = x[i];
    y[threadIdx.x] = own[0] + own[3];
}
DEFINE(bad_alignment) {
    float4 four = *reinterpret_cast<const float4*>(x + 1);
    y[threadIdx.x] = four.x + four.w;
}
DEFINE(bad_divergence) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 20) value += __shfl_xor_sync(~0u, value, 1);
    else __syncwarp();
    y[threadIdx.x] = value;
}
DEFINE(bad_barrier_in_a_branch) {
    if (threadIdx.x < 40) __syncthreads();
    else y[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
}
DEFINE(bad_lane_not_in_mask) { y[threadIdx.x] = __shfl_sync(threadIdx.x < 16 ? 0xffffu : 0xffff0000u, x[threadIdx.x], 0); }
DEFINE(bad_blocks_add) {
    if (threadIdx.x == 0) y[0] += x[blockIdx.x];
}
DEFINE(bad_blocks_write_what_others_read) {
    if (threadIdx.x == 0) y[blockIdx.x] = y[blockIdx.x ^ 1] + x[0];
}
DEFINE(bad_unwritten) { y[threadIdx.x] = x[threadIdx.x]; }
DEFINE(bad_copy_not_waited_for) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x + 4 * threadIdx.x, 16, 16);
    cuemu::copy_async_commit();
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x];
}
DEFINE(bad_copy_without_barrier) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x + 4 * threadIdx.x, 16, 16);
    cuemu::copy_async_commit();
    cuemu::copy_async_wait(0);
    y[threadIdx.x] = kept[4 * (blockDim.x - 1 - threadIdx.x)];
}
DEFINE(bad_copy_left_behind) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x + 4 * threadIdx.x, 16, 16);
    y[threadIdx.x] = 0.0f;
}
DEFINE(bad_zeros_not_waited_for) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x, 16, 0);
    cuemu::copy_async_commit();
    y[threadIdx.x] = kept[4 * threadIdx.x];
    cuemu::copy_async_wait(0);
}
DEFINE(bad_zeros_left_behind) {
    SHARED(kept);
    cuemu::copy_async(kept + 4 * threadIdx.x, x, 16, 0);
    cuemu::copy_async_commit();
    y[threadIdx.x] = 0.0f;
}
DEFINE(bad_shift) { y[threadIdx.x] = float(1 << (n - 60 + int(x[0] * 0.0f))); }
