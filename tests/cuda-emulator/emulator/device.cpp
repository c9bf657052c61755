#include "device.h"

#include "graph.h"
#include "text.h"

#include <cstdio>

namespace cuemu {

namespace {

/// What the calling thread has waited for.
thread_local Clock host;

}  // namespace

bool Point::is_reached() const { return stream == nullptr || stream->done >= number; }

Device& device() {
    // Never destroyed: threads of the process may outlive static objects.
    static auto* only = new Device;
    return *only;
}

Device::Device() : random(config().seed ^ 0x5eed) { create_stream(true); }

int Device::fail(int code, const std::string& text) {
    if (error != 0) return error;
    error = code;
    error_text = text;
    static const char* const threads[] = {"first", "random", "greedy"};
    static const char* const order[] = {"lazy", "others", "random"};
    fprintf(stderr, "cuda-emulator: seed=%llu,threads=%s,streams=%s: %s\n", static_cast<unsigned long long>(config().seed),
            threads[int(config().threads)], order[int(config().streams)], text.c_str());
    return code;
}

Stream& Device::create_stream(bool is_blocking) {
    auto stream = std::make_unique<Stream>();
    stream->line = clocks().new_line("stream");
    stream->is_blocking = is_blocking;
    streams.push_back(std::move(stream));
    return *streams.back();
}

Stream& Device::stream(void* handle) {
    return reinterpret_cast<uintptr_t>(handle) <= 2 ? *streams[0] : *static_cast<Stream*>(handle);
}

int Device::enqueue(Stream& stream, Work work, std::vector<Point> after) {
    if (error != 0) return error;
    if (stream.capture != nullptr) {
        capture(stream, std::move(work));
        return 0;
    }
    join(stream.clock, host);
    order_with_legacy(stream, after);
    uint32_t operation = clocks().add(stream.line, stream.clock, work.name);
    push(stream, std::move(after), [run = work.start(), operation] { run(operation); }, work.is_host_function);
    return error;
}

void Device::push(Stream& stream, std::vector<Point> after, std::function<void()> run, bool is_host_function) {
    stream.queue.push_back({std::move(after), std::move(run), is_host_function});
    stream.queued++;
}

void Device::host_is_after(const Clock& clock) { join(host, clock); }

/// Work of the legacy stream comes after all that was queued in blocking streams, and before all that will be.
void Device::order_with_legacy(Stream& stream, std::vector<Point>& after) {
    if (!stream.is_blocking) return;
    for (const auto& other : streams) {
        if (other.get() == &stream || !other->is_blocking) continue;
        if (&stream != streams[0].get() && other != streams[0]) continue;
        after.push_back({other.get(), other->queued});
        join(stream.clock, other->clock);
    }
}

bool Device::can_run(const Stream& stream) const {
    if (stream.queue.empty() || stream.is_busy) return false;
    for (const Point& point : stream.queue.front().after)
        if (!point.is_reached()) return false;
    return true;
}

void Device::run_front(Stream& stream) {
    Stream::Queued next = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.is_busy = true;
    if (next.is_host_function) {
        mutex.unlock();
        next.run();
        mutex.lock();
    } else if (error == 0) {
        next.run();
    }
    stream.is_busy = false;
    stream.done++;
    progress.notify_all();
}

std::vector<Stream*> Device::runnable(const Stream* except) const {
    std::vector<Stream*> found;
    for (const auto& stream : streams)
        if (stream.get() != except && can_run(*stream)) found.push_back(stream.get());
    return found;
}

/// Runs the stream's next operation, after what that waits for.
void Device::drive_one(Stream& stream) {
    if (stream.is_busy) {
        progress.wait(mutex);
        return;
    }
    std::vector<Point> after = stream.queue.front().after;
    for (const Point& point : after)
        if (!point.is_reached()) drive(*point.stream, point.number);
    if (can_run(stream)) run_front(stream);
}

void Device::drive(Stream& stream, uint32_t number) {
    while (stream.done < number) {
        std::vector<Stream*> ready = config().streams == Streams::lazy ? std::vector<Stream*>() : runnable(&stream);
        if (config().streams == Streams::random && can_run(stream)) ready.push_back(&stream);
        if (ready.empty()) drive_one(stream);
        else run_front(*ready[random.below(unsigned(ready.size()))]);
    }
}

int Device::wait(Point point) {
    if (point.stream != nullptr) drive(*point.stream, point.number);
    return error;
}

int Device::wait(Stream& stream) {
    drive(stream, stream.queued);
    host_is_after(stream.clock);
    return error;
}

int Device::wait_all() {
    for (size_t i = 0; i < streams.size(); i++) wait(*streams[i]);
    return error;
}

void Device::poll(Stream& stream) {
    stir();
    if (!stream.queue.empty()) drive_one(stream);
}

void Device::stir() {
    if (config().streams != Streams::random) return;
    while (random.below(3) == 0) {
        std::vector<Stream*> ready = runnable(nullptr);
        if (ready.empty()) return;
        run_front(*ready[random.below(unsigned(ready.size()))]);
    }
}

}  // namespace cuemu
