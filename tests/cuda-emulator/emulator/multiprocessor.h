// Runs the blocks of launches, one after another, on the OS thread that owns it; every CUDA thread of a block is a fiber.
#pragma once
#include "../shim/cuda_on_host.h"
#include "config.h"
#include "shared_memory.h"

#include <string>
#include <vector>

namespace cuemu {

struct Launch {
    const Kernel* kernel;
    /// Addresses of the arguments, which lie behind them: `argument_bytes` in all.
    void** arguments;
    size_t argument_bytes;
    dim3 grid, block;
    /// Dynamic shared memory.
    unsigned shared_bytes;
    /// Of `clocks.h`, for the checks of device memory.
    uint32_t operation;
    bool checked;

    unsigned num_blocks() const { return grid.x * grid.y * grid.z; }
    unsigned num_threads() const { return block.x * block.y * block.z; }
};

/// What lanes meet in.
enum class Call : uint8_t {
    none, shuffle, shuffle_xor, shuffle_up, shuffle_down, ballot, sync_warp, reduce_sum, reduce_maximum,
    mma_f16, mma_bf16, mma_s8, load_matrix, load_matrix_transposed, sync_threads,
};
const char* name_of(Call call);

struct Fiber : Thread {
    enum class State : uint8_t { ready, waiting, ended };
    void* stack_pointer;
    State state;
    // What the lane brings to a meeting, and its answer.
    Call call;
    unsigned mask;
    const void* site;
    uint64_t value;
    unsigned operand, width;
    const void *a, *b;
    void* d;
    uint64_t answer;
    AsyncCopies copies;
};

struct Warp {
    unsigned alive, ready, arrived, at_barrier;
    /// Counts `__syncwarp`; never goes back.
    uint32_t epoch;
};

class Multiprocessor {
public:
    static constexpr unsigned MOST_THREADS = 1024;
    static constexpr size_t MOST_SHARED = 227 << 10;

    Multiprocessor();
    ~Multiprocessor();
    Multiprocessor(const Multiprocessor&) = delete;

    /// Runs the block with this linear index. False: it made a mistake that `error` names.
    bool run(const Launch& launch, unsigned block);
    std::string error;

    // For the code that runs on the fibers.
    void barrier(const void* site);
    void meet(Fiber& fiber);
    [[noreturn]] void fault(const std::string& what);
    void access(const Fiber& fiber, const void* address, size_t bytes, bool is_write, const void* site);
    void atomic_at(const void* address) { atomic = address; }
    bool is_checked() const { return launch->checked; }
    bool coin() { return (config().seed & 1) != 0 && random.below(2) == 1; }
    Fiber& current() { return *static_cast<Fiber*>(thread); }
    SharedMemory& shared_memory() { return shared; }
    Warp& warp_of(const Fiber& fiber) { return warps[fiber.warp]; }
    [[noreturn]] void end_fiber();
    void call_kernel() { launch->kernel->call(launch->arguments); }

private:
    Fiber* pick();
    void yield();
    void wake(unsigned warp, unsigned lanes);
    void release_barrier();
    bool complete(Warp& warp, Fiber* lanes, unsigned lane);
    [[noreturn]] void deadlock();
    void prepare(const Launch& launch, unsigned block);
    void start_fiber(unsigned linear);

    std::vector<Fiber> fibers;
    Warp warps[MOST_THREADS / 32];
    unsigned num_warps, warps_ready, live, at_barrier, current_warp;
    char* stacks;
    /// Of how many stacks the lowest page cannot be touched.
    unsigned num_guarded = 0;
    void* main_stack_pointer;
    bool failed;
    const Launch* launch;
    uint32_t block_number;
    Random random{0};
    const void* atomic;
    SharedMemory shared;
};

/// Of the calling OS thread.
Multiprocessor& multiprocessor();

/// Computes what the lanes of `mask` met for (`warp.cpp`).
void compute(Call call, Fiber* lanes, unsigned mask);

}  // namespace cuemu
