// What `ptx.ts` writes calls: the instructions of PTX that are no operators of C++, each as the PTX ISA defines it.
#pragma once
#include "cuda_on_host.h"

#include <cfenv>

namespace ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using f32 = float;
using f64 = double;

constexpr size_t SHARED_BYTES = 48 << 10;
/// The shared memory of the block that runs on this OS thread. Every kernel's variables begin at its start.
extern thread_local unsigned char shared_memory[SHARED_BYTES] __attribute__((aligned(128)));

/// The lowest bits of a register as a T, or all of them with zeros above.
template <class T, class R> CUEMU_INLINE T as(R value) {
    if constexpr (std::is_same_v<T, R>) return value;
    return cuemu::from_bits<T>(cuemu::bits(value));
}
/// A T into a register, which may be wider: signed ones keep their sign.
template <class R, class T> CUEMU_INLINE void put(R& to, T value) {
    if constexpr (sizeof(R) == sizeof(T)) to = as<R>(value);
    else to = R(std::conditional_t<std::is_signed_v<T>, s64, u64>(value));
}

template <class T> CUEMU_INLINE T* global_at(u64 address) { return reinterpret_cast<T*>(address); }
template <class T> CUEMU_INLINE T* shared_at(u64 address) { return reinterpret_cast<T*>(shared_memory + u32(address)); }

template <class T, int N> struct alignas(sizeof(T) * N) Several {
    T of[N];
};

CUEMU_INLINE f32 exp2_approximate(f32 x) {
    const f32 power = exp2f(fabsf(x) < 0x1p-126f ? 0.0f : x);
    return power < 0x1p-126f ? 0.0f : power;
}
inline f32 fma_down(f32 a, f32 b, f32 c) {
    const int before = fegetround();
    fesetround(FE_DOWNWARD);
    volatile f32 x = a, y = b, z = c;
    volatile f32 result = fmaf(x, y, z);
    fesetround(before);
    return result;
}
CUEMU_INLINE f32 saturate(f32 x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
CUEMU_INLINE s32 dot4(u32 a, u32 b, s32 sum) {
    for (int i = 0; i < 4; i++) sum += s32(s8(a >> 8 * i)) * s32(s8(b >> 8 * i));
    return sum;
}
template <class T> CUEMU_INLINE T insert_bits(T a, T b, u32 place, u32 count) {
    const T ones = count >= sizeof(T) * 8 ? ~T(0) : (T(1) << count) - 1;
    return place >= sizeof(T) * 8 ? b : (b & ~(ones << place)) | (a & ones) << place;
}
/// Shifts by more than there are bits leave zeros, or the sign.
template <class T> CUEMU_INLINE T shift_left(T a, u32 by) { return by >= sizeof(T) * 8 ? T(0) : T(a << by); }
template <class T> CUEMU_INLINE T shift_right(T a, u32 by) {
    if (by < sizeof(T) * 8) return T(a >> by);
    return a < T(0) ? T(-1) : T(0);
}
CUEMU_INLINE f32 from_half(u16 bits) {
    __half_raw raw;
    raw.x = bits;
    return __half2float(__half(raw));
}
CUEMU_INLINE u16 to_half(f32 x) { return __half_raw(__float2half_rn(x)).x; }
CUEMU_INLINE u16 to_bfloat(f32 x) { return __nv_bfloat16_raw(__float2bfloat16_rn(x)).x; }
/// The first source is the upper half.
CUEMU_INLINE u32 two_halves(f32 high, f32 low) { return to_half(low) | u32(to_half(high)) << 16; }
CUEMU_INLINE u32 two_bfloats(f32 high, f32 low) { return to_bfloat(low) | u32(to_bfloat(high)) << 16; }

/// `c` has the last lane of a segment, or the first, and above it a mask of the bits that a segment's lanes have in common.
CUEMU_INLINE u32 shuffle(cuemu::Shuffle kind, u32 value, u32 operand, u32 c, u32 mask) {
    return u32(cuemu::shuffle(kind, mask, value, operand, 32 - (c >> 8 & 31)));
}
template <class T> CUEMU_INLINE T atomic_add(T* address, T value) { return atomicAdd(address, value); }
template <class T> CUEMU_INLINE T atomic_min(T* address, T value) { return atomicMin(address, value); }

}  // namespace ptx
