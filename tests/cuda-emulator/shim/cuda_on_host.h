// CUDA C++ as host C++: g++ -x c++ -include cuda_on_host.h kernel.cu. No CUDA compiler ever sees this file.
//
// A CUDA thread is a fiber; the blocks of a launch run one after another on an OS thread. What a kernel may use beyond plain
// C++ is below; the device functions that stand for PTX (`cuemu::mma` and so on) are called by the host half of the kernels'
// own header (`kernels/core/src/cuda/device.cuh`), nowhere else.
#pragma once
#define CUDA_ON_HOST 1
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <vector_types.h>
// NVIDIA's own conversions of halves: their host code gives the bits of the device's.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __launch_bounds__
#undef __forceinline__
#undef __restrict__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
// Of the OS thread, which runs one block at a time: so of the block. In a function it is static without being told.
#define __shared__ thread_local

// Always inlined, so that a report names the kernel's line.
#define CUEMU_INLINE inline __attribute__((always_inline))

namespace cuemu {

/// What a kernel sees of the thread that runs it.
struct Thread {
    uint3 index;
    unsigned linear, lane, warp;
};

/// What a kernel sees of its block and of the launch.
struct Grid {
    uint3 block;
    dim3 block_dim, grid_dim;
    unsigned char* dynamic_shared;
};

extern thread_local Thread* thread __attribute__((tls_model("initial-exec")));
extern thread_local Grid grid __attribute__((tls_model("initial-exec")));

enum class Shuffle { index, exclusive_or, up, down };
/// The type of the factors; sums are f32, of s8 they are s32.
enum class Mma { f16_16x8x16, bf16_16x8x16, s8_16x8x32 };
enum class Reduce { sum, maximum };

void sync_threads();
void sync_warp(unsigned mask);
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, unsigned operand, unsigned width);
unsigned ballot(unsigned mask, bool predicate);
/// Of all 32 lanes, by the butterfly 16, 8, 4, 2, 1: the bits of five xor shuffles, for the price of one.
float reduce(Reduce kind, float value);
/// D += A * B for `rows` x `columns` tiles with the registers of the PTX ISA: A 4, B 2, D 4 each a tile. A is
/// [rows], B is [columns], D is [rows][columns]. The order of the sums is the seed's.
void mma(Mma kind, void* d, const uint32_t* a, const uint32_t* b, unsigned rows, unsigned columns);
/// `ldmatrix .x1/.x2/.x4` of 8x8 matrices of 16-bit elements: `row` is this lane's row address.
void load_matrix(uint32_t* registers, unsigned count, const void* row, bool transposed);
/// Copies `source_bytes` and fills up to `bytes` (4, 8 or 16) with zeros, at the latest when it is waited for.
void copy_async(void* shared, const void* global, unsigned bytes, unsigned source_bytes);
void copy_async_commit();
/// Waits until at most `groups` of this thread's groups are under way.
void copy_async_wait(unsigned groups);
/// The next access to this address is part of an atomic one.
void note_atomic(const void* address);

/// A kernel as the driver finds it: `call` gets the addresses of the arguments.
struct Kernel {
    static constexpr int MOST_PARAMETERS = 32;
    const char* name;
    void (*call)(void** arguments);
    /// Touches the module's thread-local memory, where `__shared__` lies, on the calling OS thread.
    void* (*touch_shared)();
    /// Whether the kernel's accesses call the emulator's hooks (`emulator/hooks.cpp`).
    bool is_checked;
    int num_parameters;
    unsigned sizes[MOST_PARAMETERS];
};
#ifdef __SANITIZE_THREAD__
constexpr bool CHECKED = true;
#else
constexpr bool CHECKED = false;
#endif
void register_kernel(const Kernel& kernel);

template <auto F> struct Register;
template <class... A, void (*F)(A...)> struct Register<F> {
    static_assert(sizeof...(A) <= Kernel::MOST_PARAMETERS);
    template <size_t... I> static void apply(void** arguments, std::index_sequence<I...>) {
        F(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
    }
    static void call(void** arguments) { apply(arguments, std::index_sequence_for<A...>{}); }
    static void* touch_shared() {
        static thread_local char probe;
        return &probe;
    }
    explicit Register(const char* name) {
        register_kernel({name, call, touch_shared, CHECKED, sizeof...(A), {unsigned(sizeof(A))...}});
    }
};

template <class T> CUEMU_INLINE uint64_t bits(T value) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T> CUEMU_INLINE T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace cuemu

/// After the definition of every kernel; nothing under a CUDA compiler.
#define CUEMU_KERNEL(name) static const cuemu::Register<&name> cuemu_register_##name(#name);

#define threadIdx (cuemu::thread->index)
#define blockIdx (cuemu::grid.block)
#define blockDim (cuemu::grid.block_dim)
#define gridDim (cuemu::grid.grid_dim)
constexpr int warpSize = 32;

CUEMU_INLINE void __syncthreads() { cuemu::sync_threads(); }
CUEMU_INLINE void __syncwarp(unsigned mask = ~0u) { cuemu::sync_warp(mask); }
template <class T> CUEMU_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return cuemu::from_bits<T>(
        cuemu::shuffle(cuemu::Shuffle::index, mask, cuemu::bits(value), unsigned(lane), unsigned(width)));
}
template <class T> CUEMU_INLINE T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    return cuemu::from_bits<T>(
        cuemu::shuffle(cuemu::Shuffle::exclusive_or, mask, cuemu::bits(value), unsigned(lanes), unsigned(width)));
}
template <class T> CUEMU_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return cuemu::from_bits<T>(
        cuemu::shuffle(cuemu::Shuffle::up, mask, cuemu::bits(value), delta, unsigned(width)));
}
template <class T> CUEMU_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return cuemu::from_bits<T>(
        cuemu::shuffle(cuemu::Shuffle::down, mask, cuemu::bits(value), delta, unsigned(width)));
}
CUEMU_INLINE unsigned __ballot_sync(unsigned mask, int predicate) { return cuemu::ballot(mask, predicate != 0); }
CUEMU_INLINE int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
CUEMU_INLINE int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }

// Fibers change only inside the calls above, so a read and a write in a row are atomic.
template <class T, class U> CUEMU_INLINE T atomicAdd(T* address, U value) {
    cuemu::note_atomic(address);
    T old = *address;
    *address = old + T(value);
    return old;
}
template <class T, class U> CUEMU_INLINE T atomicMax(T* address, U value) {
    cuemu::note_atomic(address);
    T old = *address;
    *address = old < T(value) ? T(value) : old;
    return old;
}
template <class T, class U> CUEMU_INLINE T atomicMin(T* address, U value) {
    cuemu::note_atomic(address);
    T old = *address;
    *address = T(value) < old ? T(value) : old;
    return old;
}
template <class T> CUEMU_INLINE T __ldg(const T* address) { return *address; }

CUEMU_INLINE unsigned __float_as_uint(float x) { return unsigned(cuemu::bits(x)); }
CUEMU_INLINE int __float_as_int(float x) { return int(cuemu::bits(x)); }
CUEMU_INLINE float __uint_as_float(unsigned x) { return cuemu::from_bits<float>(x); }
CUEMU_INLINE float __int_as_float(int x) { return cuemu::from_bits<float>(unsigned(x)); }
CUEMU_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
CUEMU_INLINE float __fadd_rn(float a, float b) { return a + b; }
CUEMU_INLINE float __fsub_rn(float a, float b) { return a - b; }
CUEMU_INLINE float __fmul_rn(float a, float b) { return a * b; }
CUEMU_INLINE float __fdiv_rn(float a, float b) { return a / b; }
CUEMU_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
CUEMU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
CUEMU_INLINE float __fdividef(float a, float b) { return a / b; }
CUEMU_INLINE float __expf(float x) { return expf(x); }
CUEMU_INLINE float __logf(float x) { return logf(x); }
CUEMU_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
CUEMU_INLINE int __float2int_rn(float x) { return int(nearbyintf(x)); }
CUEMU_INLINE int __float2int_rz(float x) { return int(x); }
CUEMU_INLINE float __int2float_rn(int x) { return float(x); }
CUEMU_INLINE float2 __half22float2(__half2 x) { return {__half2float(x.x), __half2float(x.y)}; }
CUEMU_INLINE float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }
CUEMU_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
CUEMU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
CUEMU_INLINE int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
CUEMU_INLINE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
CUEMU_INLINE uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
CUEMU_INLINE uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
CUEMU_INLINE float2 make_float2(float x, float y) { return {x, y}; }
CUEMU_INLINE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::max;
using std::min;
