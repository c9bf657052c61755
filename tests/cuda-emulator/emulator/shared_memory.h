// Shared memory of a block: where it lies, who touched it last, and the copies that are on their way to it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cuemu {

struct Fiber;
struct Launch;
struct Warp;

/// The `cp.async` of a thread. Nothing lands before it is waited for, or at once where the seed says so.
struct AsyncCopies {
    struct Copy {
        void* shared;
        const void* global;
        unsigned bytes, source_bytes;
        const void* site;
        bool has_landed;
    };
    std::vector<Copy> copies;
    /// Number of copies at each commit.
    std::vector<unsigned> group_ends;
    unsigned groups_done = 0, copies_done = 0;

    void clear() {
        copies.clear();
        group_ends.clear();
        groups_done = copies_done = 0;
    }
};

class SharedMemory {
public:
    SharedMemory();
    ~SharedMemory();

    /// For a new block of a launch: NaN everywhere, nobody touched anything.
    void begin_block(const Launch& launch);
    /// A `__syncthreads`.
    void next_epoch() { epoch++; }

    unsigned char* dynamic() { return dynamic_bytes; }
    bool holds(const void* address) const;
    /// Empty, or what is wrong with the access.
    std::string check(const Fiber& fiber, const Warp& warp, const void* address, size_t bytes, bool is_write, bool is_atomic);
    /// Bytes that a copy of this thread is to write. Empty, or what is wrong with that.
    std::string mark_copy(const Fiber& fiber, const void* address, size_t bytes, bool is_under_way);

private:
    struct Touch {
        /// 0: never; a `__syncthreads` and a new block raise it.
        uint32_t epoch;
        uint32_t warp_epoch;
        uint16_t thread;
        /// Which of the cell's four.
        uint8_t bytes;
    };
    /// Four bytes.
    struct Cell {
        Touch write, read, other_read;
        /// 1 + the thread whose copy is on its way, in `copy_epoch`'s block.
        uint16_t copier;
        uint32_t copier_block;
    };

    bool conflicts(const Touch& touch, const Fiber& fiber, const Warp& warp, uint8_t bytes) const;
    /// Place in the cells' numbering: dynamic memory first, then the kernels' static one.
    size_t place(const void* address) const;

    unsigned char* dynamic_bytes;
    size_t dynamic_size = 0;
    char* static_bytes = nullptr;
    size_t static_size = 0;
    const void* static_of = nullptr;
    std::vector<Cell> cells;
    uint32_t epoch = 0;
    uint32_t first_epoch = 0;
};

}  // namespace cuemu
