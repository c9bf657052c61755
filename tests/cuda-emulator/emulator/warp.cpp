// What the lanes of a warp do together: shuffles, votes, reductions, matrices, asynchronous copies.
#include "multiprocessor.h"
#include "text.h"
#include "tensor.h"

#include <algorithm>

namespace cuemu {
namespace {

/// The lane that `lane` reads in a shuffle; itself where the PTX ISA has it keep its own value.
unsigned source_lane(const Fiber& fiber) {
    unsigned lane = fiber.lane, width = fiber.width, first = lane & ~(width - 1), operand = fiber.operand;
    switch (fiber.call) {
        case Call::shuffle: return first + (operand & (width - 1));
        case Call::shuffle_xor: return (lane ^ operand) < first + width ? lane ^ operand : lane;
        case Call::shuffle_up: return operand <= lane - first ? lane - operand : lane;
        default: return lane + operand < first + width ? lane + operand : lane;
    }
}

void compute_shuffle(Fiber* lanes, unsigned mask) {
    for (unsigned left = mask; left != 0; left &= left - 1) {
        Fiber& fiber = lanes[__builtin_ctz(left)];
        unsigned source = source_lane(fiber);
        if ((mask >> source & 1) == 0) {
            multiprocessor().fault(text("%s: lane %u reads lane %u, which is not in the mask %08x (%s)", name_of(fiber.call),
                                        fiber.lane, source, mask, source_line(fiber.site).c_str()));
        }
        fiber.answer = lanes[source].value;
    }
}

void compute_ballot(Fiber* lanes, unsigned mask) {
    unsigned votes = 0;
    for (unsigned left = mask; left != 0; left &= left - 1) votes |= unsigned(lanes[__builtin_ctz(left)].value) << __builtin_ctz(left);
    for (unsigned left = mask; left != 0; left &= left - 1) lanes[__builtin_ctz(left)].answer = votes;
}

void compute_reduce(Call call, Fiber* lanes) {
    float values[32], next[32];
    for (int i = 0; i < 32; i++) values[i] = from_bits<float>(lanes[i].value);
    for (int step = 16; step > 0; step /= 2) {
        for (int i = 0; i < 32; i++)
            next[i] = call == Call::reduce_sum ? values[i] + values[i ^ step] : fmaxf(values[i], values[i ^ step]);
        memcpy(values, next, sizeof values);
    }
    for (int i = 0; i < 32; i++) lanes[i].answer = bits(values[i]);
}

void compute_load_matrix(Call call, Fiber* lanes) {
    Multiprocessor& own = multiprocessor();
    for (unsigned matrix = 0; matrix < lanes[0].operand; matrix++) {
        const uint16_t* rows[8];
        for (unsigned r = 0; r < 8; r++) {
            const Fiber& giver = lanes[matrix * 8 + r];
            rows[r] = static_cast<const uint16_t*>(giver.a);
            if (reinterpret_cast<uintptr_t>(giver.a) % 16 != 0)
                own.fault(text("ldmatrix: the row address of lane %u is not a multiple of 16 (%s)", giver.lane, source_line(giver.site).c_str()));
            if (own.is_checked()) own.access(giver, giver.a, 16, false, giver.site);
        }
        for (unsigned lane = 0; lane < 32; lane++) {
            unsigned row = lane / 4, column = lane % 4 * 2;
            auto* registers = static_cast<uint32_t*>(lanes[lane].d);
            registers[matrix] = call == Call::load_matrix ? rows[row][column] | uint32_t(rows[row][column + 1]) << 16
                                                          : rows[column][row] | uint32_t(rows[column + 1][row]) << 16;
        }
    }
}

/// Calls that the hardware does for whole warps only.
bool wants_all_lanes(Call call) {
    return call == Call::reduce_sum || call == Call::reduce_maximum || (call >= Call::mma_f16 && call <= Call::load_matrix_transposed);
}

Fiber& bring(Call call, unsigned mask, const void* site) {
    Fiber& fiber = multiprocessor().current();
    fiber.call = call;
    fiber.mask = mask;
    fiber.site = site;
    return fiber;
}

}  // namespace

const char* name_of(Call call) {
    static const char* const names[] = {"nothing", "__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync", "__shfl_down_sync", "__ballot_sync",
                                        "__syncwarp", "warp sum", "warp maximum", "mma f16", "mma bf16", "mma s8", "ldmatrix",
                                        "ldmatrix.trans", "__syncthreads"};
    return names[int(call)];
}

void compute(Call call, Fiber* lanes, unsigned mask) {
    if (wants_all_lanes(call) && mask != ~0u)
        multiprocessor().fault(text("%s: only the lanes %08x take part", name_of(call), mask));
    switch (call) {
        case Call::shuffle:
        case Call::shuffle_xor:
        case Call::shuffle_up:
        case Call::shuffle_down: return compute_shuffle(lanes, mask);
        case Call::ballot: return compute_ballot(lanes, mask);
        case Call::reduce_sum:
        case Call::reduce_maximum: return compute_reduce(call, lanes);
        case Call::mma_f16:
        case Call::mma_bf16:
        case Call::mma_s8: return compute_mma(call, lanes);
        case Call::load_matrix:
        case Call::load_matrix_transposed: return compute_load_matrix(call, lanes);
        case Call::none:
        case Call::sync_warp:
        case Call::sync_threads: return;
    }
}

// The faces of `cuda_on_host.h`; each call's place in the kernel is its return address.
#define SITE __builtin_extract_return_addr(__builtin_return_address(0))

void sync_threads() { multiprocessor().barrier(SITE); }

void sync_warp(unsigned mask) { multiprocessor().meet(bring(Call::sync_warp, mask, SITE)); }

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, unsigned operand, unsigned width) {
    Fiber& fiber = bring(Call(int(Call::shuffle) + int(kind)), mask, SITE);
    fiber.value = value;
    fiber.operand = operand;
    fiber.width = width;
    multiprocessor().meet(fiber);
    return fiber.answer;
}

unsigned ballot(unsigned mask, bool predicate) {
    Fiber& fiber = bring(Call::ballot, mask, SITE);
    fiber.value = predicate;
    multiprocessor().meet(fiber);
    return unsigned(fiber.answer);
}

float reduce(Reduce kind, float value) {
    Fiber& fiber = bring(kind == Reduce::sum ? Call::reduce_sum : Call::reduce_maximum, ~0u, SITE);
    fiber.value = bits(value);
    multiprocessor().meet(fiber);
    return from_bits<float>(fiber.answer);
}

void mma(Mma kind, void* d, const uint32_t* a, const uint32_t* b, unsigned rows, unsigned columns) {
    Fiber& fiber = bring(Call(int(Call::mma_f16) + int(kind)), ~0u, SITE);
    fiber.d = d;
    fiber.a = a;
    fiber.b = b;
    fiber.operand = rows;
    fiber.width = columns;
    multiprocessor().meet(fiber);
}

void load_matrix(uint32_t* registers, unsigned count, const void* row, bool transposed) {
    Fiber& fiber = bring(transposed ? Call::load_matrix_transposed : Call::load_matrix, ~0u, SITE);
    fiber.d = registers;
    fiber.a = row;
    fiber.operand = count;
    multiprocessor().meet(fiber);
}

void note_atomic(const void* address) { multiprocessor().atomic_at(address); }

namespace {

void land(Fiber& fiber, AsyncCopies::Copy& copy) {
    Multiprocessor& own = multiprocessor();
    if (own.is_checked()) {
        own.shared_memory().mark_copy(fiber, copy.shared, copy.bytes, false);
        own.access(fiber, copy.shared, copy.bytes, true, copy.site);
    }
    if (copy.has_landed) return;
    memcpy(copy.shared, copy.global, copy.source_bytes);
    memset(static_cast<char*>(copy.shared) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
    copy.has_landed = true;
}

}  // namespace

void copy_async(void* shared, const void* global, unsigned bytes, unsigned source_bytes) {
    Multiprocessor& own = multiprocessor();
    Fiber& fiber = own.current();
    const void* site = SITE;
    if ((bytes != 4 && bytes != 8 && bytes != 16) || source_bytes > bytes)
        own.fault(text("cp.async of %u bytes from %u (%s)", bytes, source_bytes, source_line(site).c_str()));
    if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % bytes != 0)
        own.fault(text("cp.async: an address is not a multiple of %u (%s)", bytes, source_line(site).c_str()));
    if (own.is_checked()) {
        if (source_bytes > 0) own.access(fiber, global, source_bytes, false, site);
        own.access(fiber, shared, bytes, true, site);
        std::string wrong = own.shared_memory().mark_copy(fiber, shared, bytes, true);
        if (!wrong.empty()) own.fault(text("%s (%s)", wrong.c_str(), source_line(site).c_str()));
    }
    fiber.copies.copies.push_back({shared, global, bytes, source_bytes, site, false});
    if (!own.coin()) return;
    // The earliest moment that is allowed; the bytes are still not to be touched.
    AsyncCopies::Copy& copy = fiber.copies.copies.back();
    memcpy(shared, global, source_bytes);
    memset(static_cast<char*>(shared) + source_bytes, 0, bytes - source_bytes);
    copy.has_landed = true;
}

void copy_async_commit() {
    AsyncCopies& copies = multiprocessor().current().copies;
    copies.group_ends.push_back(unsigned(copies.copies.size()));
}

void copy_async_wait(unsigned groups) {
    Fiber& fiber = multiprocessor().current();
    AsyncCopies& copies = fiber.copies;
    while (copies.group_ends.size() - copies.groups_done > groups) {
        for (; copies.copies_done < copies.group_ends[copies.groups_done]; copies.copies_done++)
            land(fiber, copies.copies[copies.copies_done]);
        copies.groups_done++;
    }
    if (copies.groups_done == copies.group_ends.size() && copies.copies_done == copies.copies.size()) copies.clear();
}

}  // namespace cuemu
