#include "graph.h"

#include "text.h"

#include <algorithm>
#include <cstdio>

namespace cuemu {
namespace {

constexpr int CAPTURE_UNSUPPORTED = 900;

/// An order that respects the edges: as captured, or any that the seed picks.
std::vector<size_t> order_of(const GraphRun& graph, Random& random) {
    std::vector<size_t> order, left(graph.nodes.size());
    for (size_t i = 0; i < left.size(); i++) left[i] = i;
    std::vector<bool> done(left.size());
    while (!left.empty()) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < left.size(); i++) {
            const auto& after = graph.nodes[left[i]].after;
            if (std::all_of(after.begin(), after.end(), [&](size_t node) { return done[node]; })) ready.push_back(i);
            if (config().streams == Streams::lazy && !ready.empty()) break;
        }
        size_t pick = config().streams == Streams::lazy     ? ready.front()
                      : config().streams == Streams::others ? ready.back()
                                                            : ready[random.below(unsigned(ready.size()))];
        done[left[pick]] = true;
        order.push_back(left[pick]);
        left.erase(left.begin() + ptrdiff_t(pick));
    }
    return order;
}

}  // namespace

void capture(Stream& stream, Work work) {
    Capture& capture = *stream.capture;
    capture.nodes.push_back({std::move(work), stream.frontier});
    stream.frontier = {capture.nodes.size() - 1};
}

int invalidate(Capture& capture, int code, const std::string& why) {
    if (capture.error == 0) {
        capture.error = code;
        capture.why = why;
        fprintf(stderr, "cuda-emulator: capture: %s\n", why.c_str());
    }
    return code;
}

bool is_joined(const Capture& capture) {
    std::vector<bool> before(capture.nodes.size());
    std::vector<size_t> left = capture.origin->frontier;
    while (!left.empty()) {
        size_t node = left.back();
        left.pop_back();
        if (before[node]) continue;
        before[node] = true;
        left.insert(left.end(), capture.nodes[node].after.begin(), capture.nodes[node].after.end());
    }
    return std::all_of(before.begin(), before.end(), [](bool is_before) { return is_before; });
}

int refuse_while_capturing(const char* what) {
    for (const auto& stream : device().all_streams()) {
        if (stream->capture == nullptr) continue;
        Capture& capture = *stream->capture;
        bool concerns = capture.mode == CaptureMode::global || (capture.mode == CaptureMode::thread_local_ && capture.owner == std::this_thread::get_id());
        if (concerns) return invalidate(capture, CAPTURE_UNSUPPORTED, text("%s is not allowed while a stream is captured", what));
    }
    return 0;
}

GraphRun make_run(const std::vector<Node>& nodes) {
    GraphRun graph{nodes, {}, {}, {}, {}};
    std::vector<size_t> ends;
    for (size_t i = 0; i < nodes.size(); i++) {
        size_t branch = ends.size();
        for (size_t before : nodes[i].after)
            if (ends[graph.branch_of[before]] == before) branch = std::min(branch, graph.branch_of[before]);
        if (branch == ends.size()) {
            ends.push_back(i);
            graph.lines.push_back(clocks().new_line("graph branch"));
        }
        ends[branch] = i;
        graph.branch_of.push_back(branch);
    }
    return graph;
}

int launch(Device& device, GraphRun& graph, Stream& stream) {
    if (stream.capture != nullptr) return invalidate(*stream.capture, CAPTURE_UNSUPPORTED, "a graph inside a graph");
    join(stream.clock, graph.last_clock);
    Run nothing = [](uint32_t) {};
    if (int error = device.enqueue(stream, {"graph", [nothing] { return nothing; }}, {graph.last})) return error;
    // Each branch comes after all that the stream holds, and after its own branches of the launch before.
    std::vector<Clock> clock_after(graph.nodes.size());
    std::vector<std::function<void()>> runs;
    Clock all = stream.clock;
    for (size_t i = 0; i < graph.nodes.size(); i++) {
        const Node& node = graph.nodes[i];
        Clock clock = stream.clock;
        for (size_t before : node.after) join(clock, clock_after[before]);
        uint32_t operation = clocks().add(graph.lines[graph.branch_of[i]], clock, node.work.name);
        runs.push_back([run = node.work.start(), operation] { run(operation); });
        join(all, clock);
        clock_after[i] = std::move(clock);
    }
    static Random random(config().seed ^ 0x67726170);
    device.push(stream, {}, [runs = std::move(runs), order = order_of(graph, random)] {
        for (size_t node : order)
            if (cuemu::device().error == 0) runs[node]();
    }, false);
    stream.clock = all;
    graph.last = {&stream, stream.queued};
    graph.last_clock = all;
    return device.error;
}

}  // namespace cuemu
