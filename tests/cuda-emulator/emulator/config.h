// What CUDA_EMULATOR says: `seed=3,threads=greedy,streams=random,memory=512`.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cuemu {

/// Which of the threads of a block that can run goes on.
enum class Threads {
    first,   ///< the lowest
    random,  ///< any, each time one has to wait
    greedy,  ///< a random one of a random warp, and of this warp as long as one of it can run
};

/// Which queued work runs when the host waits for some of it, and whether any runs before.
enum class Streams {
    lazy,    ///< only what the wait needs, and that at the last moment
    others,  ///< everything else that can run, then what the wait needs
    random,  ///< by the seed, also while the host does something else (never in the call that queues it)
};

/// A call that fails: the `number`th (from 1) of `what`, an entry point or `kernel:NAME` when it runs.
struct Injected {
    std::string what;
    unsigned number;
    int code;
    unsigned seen = 0;
};

struct Config {
    uint64_t seed = 0;
    Threads threads = Threads::first;
    Streams streams = Streams::lazy;
    /// Bytes of device memory.
    size_t memory = size_t(4) << 30;
    /// What cuDriverGetVersion says: 1000 * major + 10 * minor.
    int driver = 12040;
    /// Compute capability, major * 10 + minor.
    int capability = 80;
    /// Number of devices; work can be given to the first.
    int devices = 1;
    /// OS threads that run blocks, where nothing is checked.
    int workers = 2;
    /// The library of kernels; empty: kernels.so beside the driver.
    std::string kernels;
    std::vector<Injected> failures;
};

/// Read once; what cannot be read ends the process with a message, since a test that sets nothing proves nothing.
Config& config();

/// The code that an injected failure has for this call, or 0.
int injected(const char* what);

/// xorshift64*, one stream a purpose.
class Random {
public:
    explicit Random(uint64_t seed) : state((seed + 1) * 0x9E3779B97F4A7C15u) {}
    unsigned below(unsigned end);

private:
    uint64_t state;
};

}  // namespace cuemu
