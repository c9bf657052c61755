#include "blocks.h"

#include "multiprocessor.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>

namespace cuemu {
namespace {

/// Block numbers in the order they run in.
std::vector<unsigned> order_of(const Launch& launch) {
    std::vector<unsigned> order(launch.num_blocks());
    std::iota(order.begin(), order.end(), 0u);
    if (config().threads == Threads::first) return order;
    Random random(config().seed ^ uint64_t(launch.operation) << 20);
    for (unsigned i = unsigned(order.size()); i > 1; i--) std::swap(order[i - 1], order[random.below(i)]);
    return order;
}

/// A launch that OS threads share.
struct Job {
    const Launch& launch;
    const std::vector<unsigned> order;
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::string error;

    void work() {
        Multiprocessor& own = multiprocessor();
        for (size_t i; (i = next++) < order.size();) {
            if (own.run(launch, order[i])) continue;
            std::lock_guard<std::mutex> lock(mutex);
            if (error.empty()) error = own.error;
            next = order.size();
        }
    }
};

/// Threads beside the calling one; they live as long as the process.
class Workers {
public:
    explicit Workers(int count) {
        for (int i = 0; i < count; i++) std::thread([this] { serve(); }).detach();
        num_threads = count;
    }

    void run(Job& job) {
        {
            std::lock_guard<std::mutex> lock(mutex);
            current = &job;
            number++;
            working = num_threads;
        }
        changed.notify_all();
        job.work();
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [this] { return working == 0; });
    }

private:
    void serve() {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return number != seen; });
            seen = number;
            lock.unlock();
            current->work();
            lock.lock();
            if (--working == 0) changed.notify_all();
        }
    }

    std::mutex mutex;
    std::condition_variable changed;
    Job* current = nullptr;
    uint64_t number = 0;
    int working = 0, num_threads = 0;
};

}  // namespace

std::string run_blocks(const Launch& launch) {
    Job job{launch, order_of(launch), {}, {}, {}};
    // A block on another thread costs a wake-up: not for a handful of them.
    if (launch.checked || config().workers <= 1 || job.order.size() < 8) {
        job.work();
    } else {
        static auto* workers = new Workers(config().workers - 1);
        workers->run(job);
    }
    return job.error;
}

}  // namespace cuemu
