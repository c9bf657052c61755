// What g++ calls before each access of a kernel that was compiled with -fsanitize=thread,alignment,bounds,...: the run time of those
// sanitizers is not linked, this is all there is of it.
#include "multiprocessor.h"
#include "text.h"

#define HOOK extern "C" __attribute__((visibility("default"))) void
#define SITE __builtin_extract_return_addr(__builtin_return_address(0))

namespace {

void access(void* address, size_t bytes, bool is_write, const void* site) {
    if (cuemu::thread == nullptr) return;
    cuemu::Multiprocessor& own = cuemu::multiprocessor();
    own.access(own.current(), address, bytes, is_write, site);
}

void access_bytes(void* address, size_t bytes, bool is_write, const void* site) {
    for (size_t i = 0; i < bytes; i++) access(static_cast<char*>(address) + i, 1, is_write, site);
}

struct SourceLocation {
    const char* file;
    unsigned line, column;
};

void undefined(const SourceLocation& place, const std::string& what) {
    if (cuemu::thread == nullptr) return;
    std::string file = place.file;
    cuemu::multiprocessor().fault(cuemu::text("%s (%s:%u)", what.c_str(), file.substr(file.rfind('/') + 1).c_str(), place.line));
}

struct TypeMismatch {
    SourceLocation place;
    const void* type;
    unsigned char log_alignment, kind;
};
struct OutOfBounds {
    SourceLocation place;
    const void *array_type, *index_type;
};
struct Arithmetic {
    SourceLocation place;
    const void* type;
};

}  // namespace

#define ACCESS(BYTES)                                                                                       \
    HOOK __tsan_read##BYTES(void* address) { access(address, BYTES, false, SITE); }                         \
    HOOK __tsan_write##BYTES(void* address) { access(address, BYTES, true, SITE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
#define UNALIGNED(BYTES)                                                                                    \
    HOOK __tsan_unaligned_read##BYTES(void* address) { access_bytes(address, BYTES, false, SITE); }         \
    HOOK __tsan_unaligned_write##BYTES(void* address) { access_bytes(address, BYTES, true, SITE); }
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)
HOOK __tsan_read_range(void* address, size_t bytes) { access_bytes(address, bytes, false, SITE); }
HOOK __tsan_write_range(void* address, size_t bytes) { access_bytes(address, bytes, true, SITE); }
HOOK __tsan_func_entry(void*) {}
HOOK __tsan_func_exit() {}
HOOK __tsan_init() {}

HOOK __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uintptr_t address) {
    if (address % (1u << data->log_alignment) == 0) return;
    undefined(data->place, cuemu::text("misaligned access of a type that wants multiples of %u", 1u << data->log_alignment));
}
HOOK __ubsan_handle_out_of_bounds(OutOfBounds* data, uintptr_t index) {
    undefined(data->place, cuemu::text("index %ld is outside of its array", long(index)));
}
HOOK __ubsan_handle_divrem_overflow(Arithmetic* data, uintptr_t, uintptr_t) { undefined(data->place, "division by zero or overflow"); }
HOOK __ubsan_handle_shift_out_of_bounds(OutOfBounds* data, uintptr_t, uintptr_t by) {
    undefined(data->place, cuemu::text("shift by %ld", long(by)));
}
HOOK __ubsan_handle_add_overflow(Arithmetic* data, uintptr_t, uintptr_t) { undefined(data->place, "a sum of ints overflows"); }
HOOK __ubsan_handle_sub_overflow(Arithmetic* data, uintptr_t, uintptr_t) { undefined(data->place, "a difference of ints overflows"); }
HOOK __ubsan_handle_mul_overflow(Arithmetic* data, uintptr_t, uintptr_t) { undefined(data->place, "a product of ints overflows"); }
HOOK __ubsan_handle_negate_overflow(Arithmetic* data, uintptr_t) { undefined(data->place, "a negated int overflows"); }
