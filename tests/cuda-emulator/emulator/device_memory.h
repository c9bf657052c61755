// Device memory, and host memory that the device may reach: where each allocation lies, and who touched each word last.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

namespace cuemu {

struct Launch;

class DeviceMemory {
public:
    enum class Kind { device, pinned };
    enum class State { live, freed, not_yet };

    /// An access of four bytes at most.
    struct Access {
        uint32_t operation;
        uint32_t block;
        bool is_write, is_atomic;
    };

    struct Cell;
    struct Allocation {
        char* address;
        size_t bytes;
        Kind kind;
        State state;
        std::string name;
        /// Of every four bytes; null where nothing is checked.
        Cell* cells;
        /// Raised by each operation that writes to it.
        uint64_t version;
    };

    DeviceMemory();

    /// Fresh addresses, never used before nor again, with a red zone behind; null when `config().memory` is used up.
    Allocation* allocate(size_t bytes, Kind kind, State state);
    /// Host memory as it is becomes reachable for the device.
    Allocation* register_host(void* address, size_t bytes);
    /// The allocation that begins there, if it is live (or not yet).
    Allocation* begins_at(const void* address);
    /// The allocation that the address lies in, whatever its state.
    Allocation* holding(const void* address);
    /// Its allocation in stream order takes place: for other streams as if every byte were written.
    void set_live(Allocation& allocation, uint32_t operation);
    void release(Allocation& allocation);
    size_t bytes_in_use() const { return in_use; }

    /// A copy or a fill by `operation`, of any length: empty, or what is wrong with it.
    std::string check_copy(const void* address, size_t bytes, bool is_write, uint32_t operation);
    /// An access by a kernel.
    std::string check_kernel(const void* address, size_t bytes, const Access& access, const Launch& launch);
    /// Whether copies and kernels are checked to the word.
    bool is_checked = false;

private:
    std::string check_place(const void* address, size_t bytes, bool is_write, Allocation*& found);
    std::string check_cells(Allocation& allocation, size_t offset, size_t bytes, const Access& access);
    bool in_arena(const void* address) const { return size_t(static_cast<const char*>(address) - arena) < ARENA; }

    static constexpr size_t ARENA = size_t(256) << 30;
    static constexpr size_t GRANULE = 256;
    static constexpr size_t RED_ZONE = 1024;
    char* arena;
    /// 1 + the index of the allocation that a granule belongs to.
    uint32_t* owners;
    size_t end = GRANULE;
    size_t in_use = 0;
    std::deque<Allocation> allocations;
    std::map<uintptr_t, Allocation*> registered;
};

DeviceMemory& device_memory();

}  // namespace cuemu
