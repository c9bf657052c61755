// Everything that is not plain C++: each PTX instruction the kernels use, beside its twin for the host build (the emulator
// in `tests/cuda-emulator` compiles the same sources with g++ and never runs the PTX). Operand order and fragments follow the
// PTX ISA, chapters "Instruction Set" and "Matrix multiply-accumulate operation using mma instruction"; `fragments.cuh` has
// the fragment maps. Sources are compiled without contraction (`-fmad=false`, `-ffp-contract=off`): a fused multiply-add is
// written `fmaf`.
#pragma once

namespace kv {

using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

constexpr u32 ALL_LANES = 0xFFFFFFFFu;

#ifdef CUDA_ON_HOST

// Dynamic shared memory of the block.
#define KV_DYNAMIC_SHARED(name) unsigned char* name = cuemu::grid.dynamic_shared
// Tells the emulator of a kernel.
#define KV_KERNEL(name) CUEMU_KERNEL(name)

inline float half_to_float(u16 half) {
  const u32 sign = u32(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {
    const float tiny = float(mantissa) * 0x1p-24f;
    return sign ? -tiny : tiny;
  }
  if (exponent == 31) return __uint_as_float(sign | 0x7F800000u | mantissa << 13);
  return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

inline u16 float_to_half(float x) {
  const u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return u16(0x7FFFu);
  if (magnitude >= 0x47800000u) return u16(sign | 0x7C00u);
  if (magnitude < 0x38800000u) return u16(sign | u32(__float2int_rn(__uint_as_float(magnitude) * 0x1p24f)));
  return u16(sign | (magnitude + 0xFFFu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13);
}

inline u32 floats_to_halves(float low, float high) {
  return float_to_half(low) | u32(float_to_half(high)) << 16;
}

inline u32 floats_to_bfloats(float low, float high) {
  const auto round = [](float x) -> u32 {
    const u32 bits = __float_as_uint(x);
    return (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  };
  return round(low) | round(high) << 16;
}

inline float exp2_approximate(float x) { return exp2f(x); }

inline int dot4(int a, int b, int sum) {
  for (int i = 0; i < 4; i++) sum += int(i8(a >> 8 * i)) * int(i8(b >> 8 * i));
  return sum;
}

template <int COLUMNS>
inline void mma_f16(float (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
  cuemu::mma(cuemu::Mma::f16_16x8x16, d, a, &b[0][0], 1, COLUMNS);
}
template <int COLUMNS>
inline void mma_bf16(float (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
  cuemu::mma(cuemu::Mma::bf16_16x8x16, d, a, &b[0][0], 1, COLUMNS);
}
template <int COLUMNS>
inline void mma_s8(int (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
  cuemu::mma(cuemu::Mma::s8_16x8x32, d, a, &b[0][0], 1, COLUMNS);
}
inline void load_matrices(u32 (&out)[4], const void* row) { cuemu::load_matrix(out, 4, row, false); }
inline void load_matrices_transposed(u32 (&out)[4], const void* row) { cuemu::load_matrix(out, 4, row, true); }

inline void copy_async(void* shared, const void* global, bool present) {
  cuemu::copy_async(shared, global, 16, present ? 16 : 0);
}
inline void copy_async_word(void* shared, const void* global, bool present) {
  cuemu::copy_async(shared, global, 4, present ? 4 : 0);
}
inline void copy_async_commit() { cuemu::copy_async_commit(); }
template <int GROUPS>
inline void copy_async_wait() {
  cuemu::copy_async_wait(GROUPS);
}

inline float warp_sum(float x) { return cuemu::reduce(cuemu::Reduce::sum, x); }
inline float warp_max(float x) { return cuemu::reduce(cuemu::Reduce::maximum, x); }

#else

#define KV_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define KV_KERNEL(name)

__device__ __forceinline__ float half_to_float(u16 half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}

// Ties to even; above 65504 infinity.
__device__ __forceinline__ u16 float_to_half(float x) {
  u16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

// Two halves in a word. The instruction's first source is the upper half.
__device__ __forceinline__ u32 floats_to_halves(float low, float high) {
  u32 both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

__device__ __forceinline__ u32 floats_to_bfloats(float low, float high) {
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// 2^x, relative error 2^-22; 0 for minus infinity.
__device__ __forceinline__ float exp2_approximate(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// `sum` plus the products of four signed bytes.
__device__ __forceinline__ int dot4(int a, int b, int sum) {
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(sum));
  return d;
}

// d[j] += a · b[j] for a 16 x 16 tile and 16 x 8 tiles of halves.
template <int COLUMNS>
__device__ __forceinline__ void mma_f16(float (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
#pragma unroll
  for (int j = 0; j < COLUMNS; j++)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[j][0]), "r"(b[j][1]));
}

template <int COLUMNS>
__device__ __forceinline__ void mma_bf16(float (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
#pragma unroll
  for (int j = 0; j < COLUMNS; j++)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[j][0]), "r"(b[j][1]));
}

// d[j] += a · b[j] for a 16 x 32 tile and 32 x 8 tiles of signed bytes.
template <int COLUMNS>
__device__ __forceinline__ void mma_s8(int (&d)[COLUMNS][4], const u32 (&a)[4], const u32 (&b)[COLUMNS][2]) {
#pragma unroll
  for (int j = 0; j < COLUMNS; j++)
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[j][0]), "+r"(d[j][1]), "+r"(d[j][2]), "+r"(d[j][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[j][0]), "r"(b[j][1]));
}

__device__ __forceinline__ u32 shared_address(const void* shared) {
  return u32(__cvta_generic_to_shared(shared));
}

// Four 8 x 8 tiles of 16-bit elements; lane 8i + j hands over the address of row j of tile i.
__device__ __forceinline__ void load_matrices(u32 (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(u32 (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes to shared memory, zeros if they are not present (then nothing is read).
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(present ? 16 : 0)
               : "memory");
}
// The same of 4 bytes.
__device__ __forceinline__ void copy_async_word(void* shared, const void* global, bool present) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(present ? 4 : 0)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most GROUPS groups are on the way.
template <int GROUPS>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// Sums and maxima over the warp, the same in every lane; butterflies from far to near.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int far = 16; far > 0; far /= 2) x += __shfl_xor_sync(ALL_LANES, x, far);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int far = 16; far > 0; far /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, far));
  return x;
}

#endif

__device__ __forceinline__ float bfloat_to_float(u16 bits) { return __uint_as_float(u32(bits) << 16); }

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xFF800000u); }

}  // namespace kv
