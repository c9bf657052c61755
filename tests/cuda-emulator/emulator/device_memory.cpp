#include "device_memory.h"

#include "clocks.h"
#include "config.h"
#include "library.h"
#include "multiprocessor.h"
#include "text.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace cuemu {

/// Blocks are numbered from 1; 0 is a copy.
struct DeviceMemory::Cell {
    uint32_t write_operation, write_block;
    uint32_t read_operation, read_block;
    /// Another reader that is not ordered with the last one.
    uint32_t other_read_operation;
    uint8_t write_bytes, read_bytes, written_bytes;
    bool is_atomic;
};

namespace {

constexpr size_t CELL = 4;
constexpr uint32_t SEVERAL_BLOCKS = ~0u;

char* reserve(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) return static_cast<char*>(memory);
    fprintf(stderr, "cuda-emulator: %zu bytes of addresses cannot be reserved\n", bytes);
    abort();
}

}  // namespace

DeviceMemory::DeviceMemory() : arena(reserve(ARENA)), owners(reinterpret_cast<uint32_t*>(reserve(ARENA / GRANULE * 4))) {}

DeviceMemory& device_memory() {
    // Never destroyed: threads of the process may outlive static objects.
    static auto* memory = new DeviceMemory;
    return *memory;
}

DeviceMemory::Allocation* DeviceMemory::allocate(size_t bytes, Kind kind, State state) {
    size_t granules = (bytes + GRANULE - 1) / GRANULE;
    size_t taken = granules * GRANULE + RED_ZONE;
    if (kind == Kind::device && bytes > config().memory - in_use) return nullptr;
    if (taken > ARENA - end) return nullptr;
    char* address = arena + end;
    end += taken;
    Cell* cells = is_checked ? reinterpret_cast<Cell*>(reserve((bytes / CELL + 1) * sizeof(Cell))) : nullptr;
    allocations.push_back({address, bytes, kind, state, text("allocation %zu", allocations.size() + 1), cells, 0});
    std::fill_n(owners + (address - arena) / ptrdiff_t(GRANULE), granules, uint32_t(allocations.size()));
    if (kind == Kind::device) in_use += bytes;
    // What nobody has written is NaN as f32, f16 and bf16.
    if (is_checked && kind == Kind::device) memset(address, 0xff, bytes);
    return &allocations.back();
}

DeviceMemory::Allocation* DeviceMemory::register_host(void* address, size_t bytes) {
    Cell* cells = is_checked ? reinterpret_cast<Cell*>(reserve((bytes / CELL + 1) * sizeof(Cell))) : nullptr;
    allocations.push_back({static_cast<char*>(address), bytes, Kind::pinned, State::live, text("registered host memory %zu", allocations.size() + 1), cells, 0});
    registered[reinterpret_cast<uintptr_t>(address)] = &allocations.back();
    return &allocations.back();
}

DeviceMemory::Allocation* DeviceMemory::holding(const void* address) {
    if (in_arena(address)) {
        uint32_t owner = owners[size_t(static_cast<const char*>(address) - arena) / GRANULE];
        if (owner == 0) return nullptr;
        Allocation& found = allocations[owner - 1];
        return size_t(static_cast<const char*>(address) - found.address) < std::max<size_t>(found.bytes, 1) ? &found : nullptr;
    }
    auto next = registered.upper_bound(reinterpret_cast<uintptr_t>(address));
    if (next == registered.begin()) return nullptr;
    Allocation* found = std::prev(next)->second;
    return size_t(static_cast<const char*>(address) - found->address) < found->bytes ? found : nullptr;
}

DeviceMemory::Allocation* DeviceMemory::begins_at(const void* address) {
    Allocation* found = holding(address);
    return found != nullptr && found->address == address && found->state != State::freed ? found : nullptr;
}

void DeviceMemory::set_live(Allocation& allocation, uint32_t operation) {
    allocation.state = State::live;
    if (allocation.cells == nullptr) return;
    for (size_t i = 0; i <= allocation.bytes / CELL; i++) {
        allocation.cells[i].write_operation = operation;
        allocation.cells[i].write_bytes = 0xf;
    }
}

void DeviceMemory::release(Allocation& allocation) {
    allocation.state = State::freed;
    if (allocation.kind == Kind::device) in_use -= allocation.bytes;
    if (allocation.cells != nullptr) munmap(allocation.cells, (allocation.bytes / CELL + 1) * sizeof(Cell));
    allocation.cells = nullptr;
    if (registered.erase(reinterpret_cast<uintptr_t>(allocation.address)) == 0) madvise(allocation.address, allocation.bytes, MADV_DONTNEED);
}

std::string DeviceMemory::check_place(const void* address, size_t bytes, bool is_write, Allocation*& found) {
    const char* verb = is_write ? "write" : "read";
    found = holding(address);
    if (found == nullptr) {
        if (!in_arena(address)) return text("%s of %zu bytes at %p: not memory of the device", verb, bytes, address);
        const Allocation* nearest = nullptr;
        for (const Allocation& one : allocations)
            if (one.address <= static_cast<const char*>(address) && in_arena(one.address)) nearest = &one;
        if (nearest == nullptr) return text("out-of-bounds %s of %zu bytes before every allocation", verb, bytes);
        return text("out-of-bounds %s of %zu bytes at byte %td of %s, which has %zu", verb, bytes,
                    static_cast<const char*>(address) - nearest->address, nearest->name.c_str(), nearest->bytes);
    }
    size_t offset = size_t(static_cast<const char*>(address) - found->address);
    if (bytes > found->bytes - offset)
        return text("out-of-bounds %s of %zu bytes at byte %zu of %s, which has %zu", verb, bytes, offset, found->name.c_str(), found->bytes);
    if (found->state == State::freed) return text("use after free: %s of %zu bytes at byte %zu of %s", verb, bytes, offset, found->name.c_str());
    if (found->state == State::not_yet) return text("%s of %s before its allocation in stream order", verb, found->name.c_str());
    return {};
}

std::string DeviceMemory::check_cells(Allocation& allocation, size_t offset, size_t bytes, const Access& access) {
    const char* verb = access.is_write ? "writes" : "reads";
    auto race = [&](uint32_t other, const char* did, size_t at) {
        return text("stream race: %s %s byte %zu of %s, %s by %s, with no event or wait between", clocks().describe(access.operation).c_str(),
                    verb, at, allocation.name.c_str(), did, clocks().describe(other).c_str());
    };
    auto unordered = [&](uint32_t other) { return other != 0 && other != access.operation && !clocks().is_before(other, access.operation); };
    for (size_t at = offset / CELL * CELL; at < offset + bytes; at += CELL) {
        Cell& cell = allocation.cells[at / CELL];
        unsigned skipped = at < offset ? unsigned(offset - at) : 0;
        unsigned used = unsigned(std::min(offset + bytes, at + CELL) - at);
        auto which = uint8_t((1u << used) - (1u << skipped));
        // A copy may take along what nothing has written: it arrives as NaN.
        if (!access.is_write && access.block != 0 && allocation.kind == Kind::device && (cell.written_bytes & which) != which)
            return text("read of byte %zu of %s, which nothing has written", at + skipped, allocation.name.c_str());
        if ((cell.write_bytes & which) != 0 && unordered(cell.write_operation)) return race(cell.write_operation, "written", at);
        if (access.is_write) {
            if ((cell.read_bytes & which) != 0 && unordered(cell.read_operation)) return race(cell.read_operation, "read", at);
            if (unordered(cell.other_read_operation)) return race(cell.other_read_operation, "read", at);
        }
        if (access.block != 0) {
            bool both_atomic = access.is_atomic && cell.is_atomic;
            if (cell.write_operation == access.operation && (cell.write_bytes & which) != 0 && cell.write_block != access.block && !both_atomic)
                return text("blocks race: %s byte %zu of %s, written by block %u of the same launch", verb, at, allocation.name.c_str(), cell.write_block - 1);
            if (access.is_write && cell.read_operation == access.operation && (cell.read_bytes & which) != 0 && cell.read_block != access.block)
                return text("blocks race: writes byte %zu of %s, read by another block of the same launch", at, allocation.name.c_str());
        }
        if (access.is_write) {
            bool goes_on = cell.write_operation == access.operation && cell.write_block == access.block;
            cell.write_bytes = goes_on ? cell.write_bytes | which : which;
            cell.write_operation = access.operation;
            cell.write_block = access.block;
            cell.written_bytes |= which;
            cell.is_atomic = access.is_atomic;
        } else if (!access.is_atomic) {
            if (cell.read_operation != access.operation) {
                if (unordered(cell.read_operation)) cell.other_read_operation = cell.read_operation;
                cell.read_operation = access.operation;
                cell.read_block = access.block;
                cell.read_bytes = 0;
            } else if (cell.read_block != access.block) {
                cell.read_block = SEVERAL_BLOCKS;
            }
            cell.read_bytes |= which;
        }
    }
    return {};
}

std::string DeviceMemory::check_copy(const void* address, size_t bytes, bool is_write, uint32_t operation) {
    if (bytes == 0) return {};
    Allocation* found;
    std::string wrong = check_place(address, bytes, is_write, found);
    if (!wrong.empty()) return wrong;
    if (is_write) found->version++;
    if (found->cells == nullptr) return {};
    return check_cells(*found, size_t(static_cast<const char*>(address) - found->address), bytes, {operation, 0, is_write, false});
}

std::string DeviceMemory::check_kernel(const void* address, size_t bytes, const Access& access, const Launch& launch) {
    if (!access.is_write && is_constant(address, launch)) return {};
    Allocation* found;
    std::string wrong = check_place(address, bytes, access.is_write, found);
    if (!wrong.empty()) return wrong;
    if (access.is_write) found->version++;
    Access numbered = access;
    numbered.block++;
    return check_cells(*found, size_t(static_cast<const char*>(address) - found->address), bytes, numbered);
}

}  // namespace cuemu
