// Streams and events. Queueing never executes: work runs when a wait or a query needs it, or, where the seed says so, in some
// later call; only the order of streams, waits for events and the rules of the legacy stream bind it.
#pragma once
#include "clocks.h"
#include "config.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cuemu {

struct Capture;
struct Stream;

/// Reached when so many operations of the stream are done.
struct Point {
    Stream* stream = nullptr;
    uint32_t number = 0;
    bool is_reached() const;
};

/// Does the work; the number is the operation's in `clocks.h`.
using Run = std::function<void(uint32_t operation)>;

/// What is queued, or captured to be queued each time that the graph is launched. `start` is called then.
struct Work {
    std::string name;
    std::function<Run()> start;
    /// Calls back into the program: runs without the device's lock.
    bool is_host_function = false;
};

struct Stream {
    unsigned line;
    /// Ordered with the legacy stream.
    bool is_blocking;
    struct Queued {
        std::vector<Point> after;
        std::function<void()> run;
        bool is_host_function;
    };
    std::deque<Queued> queue;
    uint32_t queued = 0, done = 0;
    bool is_busy = false;
    Clock clock;
    /// While it is captured: the graph, and the nodes that the next one comes after.
    std::shared_ptr<Capture> capture;
    std::vector<size_t> frontier;
};

struct Event {
    Point point;
    Clock clock;
    std::shared_ptr<Capture> capture;
    std::vector<size_t> frontier;
    /// When the last record was done, for cuEventElapsedTime.
    std::shared_ptr<double> milliseconds = std::make_shared<double>(0);
};

class Device {
public:
    Device();

    /// Held by every entry point.
    std::recursive_mutex mutex;

    /// 0, or the code that every call has to return since something went wrong on the device.
    int error = 0;
    std::string error_text;
    /// Keeps the first failure and prints it. Returns the code.
    int fail(int code, const std::string& text);

    Stream& create_stream(bool is_blocking);
    /// A handle's stream; null and the two special handles are the legacy one.
    Stream& stream(void* handle);
    /// Queues, or captures. Returns `error`.
    int enqueue(Stream& stream, Work work, std::vector<Point> after = {});
    /// As `enqueue` when the operation has its number already; `stream.clock` holds what comes before.
    void push(Stream& stream, std::vector<Point> after, std::function<void()> run, bool is_host_function);

    int wait(Point point);
    /// Waits for all that was queued there, and lets the host be after it.
    int wait(Stream& stream);
    int wait_all();
    /// Work goes on a little, as it does while a program polls.
    void poll(Stream& stream);
    /// In random order: some of the work runs while the host does other things.
    void stir();
    /// The calling thread is: that it then tells another thread is no order that a device knows, events are.
    void host_is_after(const Clock& clock);

    const std::vector<std::unique_ptr<Stream>>& all_streams() const { return streams; }

private:
    bool can_run(const Stream& stream) const;
    void run_front(Stream& stream);
    void drive(Stream& stream, uint32_t number);
    void drive_one(Stream& stream);
    std::vector<Stream*> runnable(const Stream* except) const;
    void order_with_legacy(Stream& stream, std::vector<Point>& after);

    std::vector<std::unique_ptr<Stream>> streams;
    Random random;
    std::condition_variable_any progress;
};

Device& device();

}  // namespace cuemu
