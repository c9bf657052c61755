// Graphs: what a stream was asked for while it was captured, to be run again as a whole.
#pragma once
#include "device.h"

#include <thread>

namespace cuemu {

struct Node {
    Work work;
    /// Earlier nodes that it comes after.
    std::vector<size_t> after;
};

/// CUstreamCaptureMode.
enum class CaptureMode { global, thread_local_, relaxed };

struct Capture {
    Stream* origin;
    CaptureMode mode;
    std::thread::id owner;
    std::vector<Node> nodes;
    /// 0, or the code that ended it, and why.
    int error = 0;
    std::string why;
};

struct GraphRun {
    std::vector<Node> nodes;
    /// Branches: each node goes on the line of a node before it, or begins one. Index into `lines`.
    std::vector<size_t> branch_of;
    std::vector<unsigned> lines;
    /// Launches of one graph follow each other.
    Point last;
    Clock last_clock;
};

/// Adds the work to the graph that the stream is captured for.
void capture(Stream& stream, Work work);
/// The capture cannot be ended well any more. Returns the code.
int invalidate(Capture& capture, int code, const std::string& why);
/// Whether all that was captured in other streams comes before what the first one would do next.
bool is_joined(const Capture& capture);
/// 0, or the code for a call that is not allowed while some stream is captured: it ends that capture.
int refuse_while_capturing(const char* what);

GraphRun make_run(const std::vector<Node>& nodes);
int launch(Device& device, GraphRun& graph, Stream& stream);

}  // namespace cuemu
