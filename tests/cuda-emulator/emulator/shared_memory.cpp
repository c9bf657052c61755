#include "shared_memory.h"

#include "multiprocessor.h"
#include "text.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

namespace cuemu {
namespace {

/// Beyond the largest dynamic memory, so that what overruns it is still in reach and can be named.
constexpr size_t MARGIN = 4096;
constexpr size_t CELL = 4;

struct Static {
    const void* base;
    char* bytes = nullptr;
    size_t size = 0;
};

/// The thread-local memory of the library that was loaded at `base`.
int find_static(dl_phdr_info* info, size_t, void* argument) {
    auto* found = static_cast<Static*>(argument);
    if (info->dlpi_addr != reinterpret_cast<uintptr_t>(found->base)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS || info->dlpi_tls_data == nullptr) continue;
        found->bytes = static_cast<char*>(info->dlpi_tls_data);
        found->size = info->dlpi_phdr[i].p_memsz;
    }
    return 1;
}

/// Which bytes of the cell that begins at `cell` are in `from..to`.
uint8_t bytes_in(size_t cell, size_t from, size_t to) {
    uint8_t bytes = 0;
    for (size_t i = 0; i < CELL; i++) bytes |= uint8_t((cell + i >= from && cell + i < to) << i);
    return bytes;
}

}  // namespace

SharedMemory::SharedMemory() {
    void* memory = mmap(nullptr, Multiprocessor::MOST_SHARED + MARGIN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    dynamic_bytes = static_cast<unsigned char*>(memory);
}

SharedMemory::~SharedMemory() { munmap(dynamic_bytes, Multiprocessor::MOST_SHARED + MARGIN); }

void SharedMemory::begin_block(const Launch& launch) {
    dynamic_size = launch.shared_bytes;
    if (!launch.checked) return;
    // The library's part of this OS thread's memory exists once it was touched.
    launch.kernel->touch_shared();
    auto* library = reinterpret_cast<const void*>(launch.kernel->call);
    if (library != static_of) {
        Dl_info info;
        Static found{dladdr(library, &info) == 0 ? nullptr : info.dli_fbase};
        dl_iterate_phdr(find_static, &found);
        static_bytes = found.bytes;
        static_size = found.size;
        static_of = library;
        cells.resize((Multiprocessor::MOST_SHARED + MARGIN + static_size) / CELL + 1);
    }
    memset(dynamic_bytes, 0xff, dynamic_size);
    if (static_size > 0) memset(static_bytes, 0xff, static_size);
    first_epoch = ++epoch;
}

bool SharedMemory::holds(const void* address) const {
    auto* byte = static_cast<const unsigned char*>(address);
    return size_t(byte - dynamic_bytes) < Multiprocessor::MOST_SHARED + MARGIN ||
           size_t(static_cast<const char*>(address) - static_bytes) < static_size;
}

size_t SharedMemory::place(const void* address) const {
    size_t offset = size_t(static_cast<const unsigned char*>(address) - dynamic_bytes);
    constexpr size_t dynamic_end = Multiprocessor::MOST_SHARED + MARGIN;
    return offset < dynamic_end ? offset : dynamic_end + size_t(static_cast<const char*>(address) - static_bytes);
}

bool SharedMemory::conflicts(const Touch& touch, const Fiber& fiber, const Warp& warp, uint8_t bytes) const {
    if (touch.epoch != epoch || touch.thread == fiber.linear || (touch.bytes & bytes) == 0) return false;
    return touch.thread / 32u != fiber.warp || touch.warp_epoch == warp.epoch;
}

std::string SharedMemory::check(const Fiber& fiber, const Warp& warp, const void* address, size_t bytes, bool is_write, bool is_atomic) {
    const char* verb = is_write ? "write" : "read";
    size_t from = place(address);
    if (from < Multiprocessor::MOST_SHARED + MARGIN && from + bytes > dynamic_size)
        return text("out-of-bounds %s of %zu bytes at byte %zu of %zu of dynamic shared memory", verb, bytes, from, dynamic_size);
    for (size_t at = from / CELL * CELL; at < from + bytes; at += CELL) {
        Cell& cell = cells[at / CELL];
        uint8_t which = bytes_in(at, from, from + bytes);
        if (cell.copier != 0 && cell.copier_block == first_epoch)
            return text("%s of shared byte %zu by thread %u: the cp.async of thread %u that writes it was not waited for", verb, at, fiber.linear, cell.copier - 1u);
        if (is_atomic) continue;
        if (conflicts(cell.write, fiber, warp, which))
            return text("shared-memory race: %s by thread %u of byte %zu, written by thread %u with no barrier between", verb, fiber.linear, at, cell.write.thread);
        Touch now{epoch, warp.epoch, uint16_t(fiber.linear), which};
        Touch& last = is_write ? cell.write : cell.read;
        if (is_write) {
            for (const Touch* read : {&cell.read, &cell.other_read})
                if (conflicts(*read, fiber, warp, which))
                    return text("shared-memory race: write by thread %u of byte %zu, read by thread %u with no barrier between", fiber.linear, at, read->thread);
        } else if (last.epoch == epoch && last.thread != fiber.linear) {
            cell.other_read = last;
        }
        if (last.epoch == epoch && last.thread == fiber.linear && last.warp_epoch == warp.epoch) now.bytes |= last.bytes;
        last = now;
    }
    return {};
}

std::string SharedMemory::mark_copy(const Fiber& fiber, const void* address, size_t bytes, bool is_under_way) {
    size_t from = place(address);
    for (size_t at = from / CELL * CELL; at < from + bytes; at += CELL) {
        Cell& cell = cells[at / CELL];
        if (is_under_way && cell.copier != 0 && cell.copier_block == first_epoch)
            return text("cp.async by thread %u to shared byte %zu, which one of thread %u still writes", fiber.linear, at, cell.copier - 1u);
        cell.copier = is_under_way ? uint16_t(fiber.linear + 1) : 0;
        cell.copier_block = first_epoch;
    }
    return {};
}

}  // namespace cuemu
