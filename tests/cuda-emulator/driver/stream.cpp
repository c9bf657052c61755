// Streams, events, graphs.
#include "entry.h"

#include "../emulator/text.h"

#include <algorithm>
#include <chrono>

using namespace cuemu;

namespace {

Event& event(CUevent handle) { return *reinterpret_cast<Event*>(handle); }

double now() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// For calls that look at a stream: it must not be captured.
CUresult refuse_captured(Stream& stream, const char* what) {
    if (stream.capture == nullptr) return CUDA_SUCCESS;
    return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, text("%s of a stream that is captured", what)));
}

CUresult refuse_captured(Event& event, const char* what) {
    if (event.capture == nullptr) return CUDA_SUCCESS;
    invalidate(*event.capture, CUDA_ERROR_CAPTURED_EVENT, text("%s of an event that was recorded in a capture", what));
    return CUDA_ERROR_CAPTURED_EVENT;
}

}  // namespace

ENTRY cuStreamCreate(CUstream* stream, unsigned flags) {
    CALL;
    *stream = reinterpret_cast<CUstream>(&device().create_stream((flags & CU_STREAM_NON_BLOCKING) == 0));
    return CUDA_SUCCESS;
}

ENTRY cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

/// What was queued still runs; the handle stays readable, since events may name it.
ENTRY cuStreamDestroy(CUstream) {
    CALL;
    return CUDA_SUCCESS;
}

ENTRY cuStreamSynchronize(CUstream handle) {
    CALL;
    Stream& stream = device().stream(handle);
    if (CUresult refused = refuse_captured(stream, __func__)) return refused;
    return result(device().wait(stream));
}

ENTRY cuStreamQuery(CUstream handle) {
    CALL;
    Stream& stream = device().stream(handle);
    if (CUresult refused = refuse_captured(stream, __func__)) return refused;
    device().poll(stream);
    if (device().error != 0) return result(device().error);
    if (stream.done < stream.queued) return CUDA_ERROR_NOT_READY;
    device().host_is_after(stream.clock);
    return CUDA_SUCCESS;
}

ENTRY cuStreamWaitEvent(CUstream handle, CUevent waited, unsigned) {
    CALL;
    Stream& stream = device().stream(handle);
    Event& before = event(waited);
    device().stir();
    if (before.capture != nullptr) {
        if (stream.capture != nullptr && stream.capture != before.capture)
            return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_MERGE, "an event of another capture"));
        if (stream.capture == nullptr) stream.frontier.clear();
        stream.capture = before.capture;
        for (size_t node : before.frontier)
            if (std::find(stream.frontier.begin(), stream.frontier.end(), node) == stream.frontier.end()) stream.frontier.push_back(node);
        return CUDA_SUCCESS;
    }
    if (stream.capture != nullptr && before.point.stream != nullptr)
        return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "a wait for an event that was recorded outside of the capture"));
    if (before.point.stream == nullptr) return CUDA_SUCCESS;
    join(stream.clock, before.clock);
    Run nothing = [](uint32_t) {};
    return result(device().enqueue(stream, {"wait for an event", [nothing] { return nothing; }}, {before.point}));
}

ENTRY cuEventCreate(CUevent* handle, unsigned) {
    CALL;
    *handle = reinterpret_cast<CUevent>(new Event);
    return CUDA_SUCCESS;
}

/// Kept: what is queued may still write its time.
ENTRY cuEventDestroy(CUevent) {
    CALL;
    return CUDA_SUCCESS;
}

ENTRY cuEventRecord(CUevent handle, CUstream recorded) {
    CALL;
    Stream& stream = device().stream(recorded);
    Event& recording = event(handle);
    device().stir();
    recording.capture = stream.capture;
    recording.frontier = stream.frontier;
    if (stream.capture != nullptr) return CUDA_SUCCESS;
    Run run = [when = recording.milliseconds](uint32_t) { *when = now(); };
    int error = device().enqueue(stream, {"record of an event", [run] { return run; }});
    recording.point = {&stream, stream.queued};
    recording.clock = stream.clock;
    return result(error);
}

ENTRY cuEventSynchronize(CUevent handle) {
    CALL;
    NOT_IN_CAPTURE;
    if (CUresult refused = refuse_captured(event(handle), __func__)) return refused;
    int error = device().wait(event(handle).point);
    device().host_is_after(event(handle).clock);
    return result(error);
}

ENTRY cuEventQuery(CUevent handle) {
    CALL;
    NOT_IN_CAPTURE;
    Event& asked = event(handle);
    if (CUresult refused = refuse_captured(asked, __func__)) return refused;
    if (!asked.point.is_reached()) device().poll(*asked.point.stream);
    if (device().error != 0) return result(device().error);
    if (!asked.point.is_reached()) return CUDA_ERROR_NOT_READY;
    device().host_is_after(asked.clock);
    return CUDA_SUCCESS;
}

ENTRY cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
    CALL;
    if (!event(from).point.is_reached() || !event(to).point.is_reached()) return CUDA_ERROR_NOT_READY;
    *milliseconds = float(*event(to).milliseconds - *event(from).milliseconds);
    return CUDA_SUCCESS;
}

ENTRY cuLaunchHostFunc(CUstream handle, CUhostFn function, void* argument) {
    CALL;
    device().stir();
    Run run = [=](uint32_t) { function(argument); };
    return result(device().enqueue(device().stream(handle), {"host function", [run] { return run; }, true}));
}

ENTRY cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    CALL;
    Stream& stream = device().stream(handle);
    if (&stream == &device().stream(nullptr)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream.capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    stream.capture = std::make_shared<Capture>(Capture{&stream, CaptureMode(mode), std::this_thread::get_id(), {}, 0, ""});
    stream.frontier.clear();
    return CUDA_SUCCESS;
}

ENTRY cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    CALL;
    Stream& stream = device().stream(handle);
    *graph = nullptr;
    std::shared_ptr<Capture> ended = stream.capture;
    if (ended == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    if (ended->origin != &stream) return result(invalidate(*ended, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "ended on a stream that did not begin it"));
    if (ended->mode != CaptureMode::relaxed && ended->owner != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    bool joined = is_joined(*ended);
    for (const auto& other : device().all_streams())
        if (other->capture == ended) other->capture = nullptr;
    if (ended->error != 0) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!joined) return result(invalidate(*ended, CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "work of another stream was not joined to the first"));
    *graph = reinterpret_cast<CUgraph>(new std::vector<Node>(ended->nodes));
    return CUDA_SUCCESS;
}

ENTRY cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    CALL;
    Stream& stream = device().stream(handle);
    *status = stream.capture == nullptr           ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream.capture->error != 0 ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                                  : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

ENTRY cuGraphInstantiateWithFlags(CUgraphExec* run, CUgraph graph, unsigned long long) {
    CALL;
    *run = reinterpret_cast<CUgraphExec>(new GraphRun(make_run(*reinterpret_cast<std::vector<Node>*>(graph))));
    return CUDA_SUCCESS;
}

ENTRY cuGraphUpload(CUgraphExec, CUstream) {
    CALL;
    return CUDA_SUCCESS;
}

ENTRY cuGraphLaunch(CUgraphExec run, CUstream handle) {
    CALL;
    device().stir();
    return result(launch(device(), *reinterpret_cast<GraphRun*>(run), device().stream(handle)));
}

ENTRY cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
    CALL;
    size_t all = reinterpret_cast<std::vector<Node>*>(graph)->size();
    for (size_t i = 0; nodes != nullptr && i < std::min(all, *count); i++) nodes[i] = reinterpret_cast<CUgraphNode>(i + 1);
    *count = all;
    return CUDA_SUCCESS;
}

ENTRY cuGraphDestroy(CUgraph graph) {
    CALL;
    delete reinterpret_cast<std::vector<Node>*>(graph);
    return CUDA_SUCCESS;
}

/// What was launched holds all that it needs.
ENTRY cuGraphExecDestroy(CUgraphExec run) {
    CALL;
    delete reinterpret_cast<GraphRun*>(run);
    return CUDA_SUCCESS;
}
