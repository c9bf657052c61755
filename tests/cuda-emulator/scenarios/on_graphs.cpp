// Graphs: captured, launched again and again, and the calls that a capture forbids. Failures on demand, and modules.
#include "scenario.h"

#include <thread>

namespace {

constexpr size_t COUNT = 256;

CUgraphExec run_of(CUgraph graph) {
    CUgraphExec run;
    must(cuGraphInstantiate(&run, graph, 0));
    must(cuGraphDestroy(graph));
    return run;
}

}  // namespace

SCENARIO(a_graph_runs_each_time_it_is_launched) {
    open_device();
    CUstream stream = new_stream();
    CUgraph graph;
    Floats x(std::vector<float>(COUNT, 0.0f));
    must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    must(launch("add_one", x, x, stream, {2}));
    must(launch("add_one", x, x, stream, {2}));
    must(cuStreamEndCapture(stream, &graph));
    CUgraphExec run = run_of(graph);
    expect(x.read(stream)[0] == 0.0f, "capturing executed");
    for (int i = 0; i < 3; i++) must(cuGraphLaunch(run, stream));
    must(cuGraphExecDestroy(run));
    expect(x.read(stream)[0] == 6.0f, "values");
}

SCENARIO(branches_of_a_graph_are_joined_by_events) {
    open_device();
    CUstream stream = new_stream(), side = new_stream();
    CUevent forked = new_event(), joined = new_event();
    CUgraph graph;
    Floats x(counting(COUNT)), a(COUNT), b(COUNT), c(COUNT);
    must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    must(launch("twice", a, x, stream, {2}));
    must(cuEventRecord(forked, stream));
    must(cuStreamWaitEvent(side, forked, 0));
    must(launch("twice", b, a, side, {2}));
    must(launch("twice", c, a, stream, {2}));
    must(cuEventRecord(joined, side));
    must(cuStreamWaitEvent(stream, joined, 0));
    must(launch("twice", a, b, stream, {2}));
    must(cuStreamEndCapture(stream, &graph));
    CUgraphExec run = run_of(graph);
    must(cuGraphLaunch(run, stream));
    must(cuGraphLaunch(run, stream));
    expect(a.read(stream)[0] == 8.0f && c.read(stream)[0] == 4.0f, "values");
}

SCENARIO(bad_branch_that_races) {
    open_device();
    CUstream stream = new_stream(), side = new_stream();
    CUevent forked = new_event(), joined = new_event();
    CUgraph graph;
    Floats x(counting(COUNT)), a(counting(COUNT)), b(counting(COUNT));
    must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    must(launch("twice", b, x, stream, {2}));
    must(cuEventRecord(forked, stream));
    must(cuStreamWaitEvent(side, forked, 0));
    must(launch("twice", a, x, stream, {2}));
    must(launch("twice", b, a, side, {2}));
    must(cuEventRecord(joined, side));
    must(cuStreamWaitEvent(stream, joined, 0));
    must(cuStreamEndCapture(stream, &graph));
    must(cuGraphLaunch(run_of(graph), stream));
    must(cuStreamSynchronize(stream));
}

SCENARIO(bad_graph_reads_what_another_stream_writes) {
    open_device();
    CUstream stream = new_stream(), other = new_stream();
    CUgraph graph;
    Floats x(counting(COUNT)), y(COUNT);
    must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    must(launch("twice", y, x, stream, {2}));
    must(cuStreamEndCapture(stream, &graph));
    must(cuMemsetD8Async(x.at, 0, COUNT * sizeof(float), other));
    must(cuGraphLaunch(run_of(graph), stream));
    must(cuCtxSynchronize());
}

SCENARIO(a_capture_refuses_waits_and_allocations) {
    open_device();
    CUstream stream = new_stream();
    CUevent event = new_event();
    Floats x(COUNT);
    std::vector<float> page(COUNT);
    auto refused = [&](auto call, CUresult expected = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) {
        CUgraph graph;
        must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        must(launch("twice", x, x, stream, {2}));
        must_fail(call(), expected);
        must_fail(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        expect(graph == nullptr, "a graph in spite of that");
    };
    refused([&] { return cuStreamSynchronize(stream); });
    refused([&] { return cuStreamQuery(stream); });
    refused([&] { return cuCtxSynchronize(); });
    refused([&] { CUdeviceptr more; return cuMemAlloc(&more, 4); });
    refused([&] { return cuMemFree(x.at); });
    refused([&] { CUdeviceptr more; return cuMemAllocAsync(&more, 4, stream); });
    refused([&] { void* more; return cuMemHostAlloc(&more, 4, 0); });
    refused([&] { return cuMemcpyHtoD(x.at, page.data(), 4); });
    refused([&] { return cuMemcpyHtoDAsync(x.at, page.data(), 4, stream); });
    refused([&] { return cuMemcpyDtoHAsync(page.data(), x.at, 4, stream); });
    must(cuEventRecord(event, new_stream()));
    refused([&] { return cuStreamWaitEvent(stream, event, 0); }, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    refused([&] { must(cuEventRecord(event, stream)); return cuEventQuery(event); });
}

SCENARIO(a_capture_that_is_not_joined_is_refused) {
    open_device();
    CUstream stream = new_stream(), side = new_stream();
    CUevent forked = new_event();
    CUgraph graph;
    Floats x(counting(COUNT)), y(COUNT);
    must(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    must(cuEventRecord(forked, stream));
    must(cuStreamWaitEvent(side, forked, 0));
    must(launch("twice", y, x, side, {2}));
    must_fail(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
}

SCENARIO(the_legacy_stream_cannot_be_captured) {
    open_device();
    must_fail(cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

SCENARIO(errors_of_the_device_are_final) {
    open_device();
    Floats x(counting(COUNT)), y(COUNT);
    must(launch("twice", y, x, nullptr, {2}));
    must_fail(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    CUdeviceptr more;
    must_fail(cuMemAlloc(&more, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    CUstream stream;
    must_fail(cuStreamCreate(&stream, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
}

SCENARIO(calls_need_a_context_on_their_thread) {
    open_device();
    CUstream stream = new_stream();
    std::thread other([&] {
        CUdeviceptr memory;
        must_fail(cuMemAlloc(&memory, 4), CUDA_ERROR_INVALID_CONTEXT);
        must_fail(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_CONTEXT);
    });
    other.join();
    must(cuStreamSynchronize(stream));
}

SCENARIO(an_injected_failure_comes_once) {
    open_device();
    CUdeviceptr memory;
    must(cuMemAlloc(&memory, 4));
    must_fail(cuMemAlloc(&memory, 4), CUDA_ERROR_OUT_OF_MEMORY);
    must(cuMemAlloc(&memory, 4));
}

SCENARIO(launches_are_held_to_the_limits) {
    open_device();
    Floats x(counting(COUNT)), y(COUNT);
    must_fail(launch("twice", y, x, nullptr, {0}), CUDA_ERROR_INVALID_VALUE);
    must_fail(launch("twice", y, x, nullptr, {1, 1025}), CUDA_ERROR_INVALID_VALUE);
    must_fail(launch("twice", y, x, nullptr, {1, 257}), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    must_fail(launch("twice", y, x, nullptr, {1, 128, 49153}), CUDA_ERROR_INVALID_VALUE);
    CUfunction function = kernel("twice");
    must_fail(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 164 << 10), CUDA_ERROR_INVALID_VALUE);
    must(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 163 << 10));
}

SCENARIO(modules_must_be_the_hosts_kernels) {
    open_device();
    CUmodule module;
    const char* parameters = "(.param .u64 a, .param .u64 b, .param .u32 c)";
    auto load = [&](const std::string& text) { return cuModuleLoadData(&module, text.c_str()); };
    auto entry = [](const char* name, const char* parameters) { return std::string(".version 8.0\n.visible .entry ") + name + parameters + "\n{\n}\n"; };
    must(load(entry("twice", parameters)));
    must_fail(load(entry("thrice", parameters)), CUDA_ERROR_INVALID_PTX);
    must_fail(load(entry("twice", "(.param .u64 a, .param .u64 b)")), CUDA_ERROR_INVALID_PTX);
    must_fail(load(entry("twice", "(.param .u64 a, .param .u64 b, .param .u64 c)")), CUDA_ERROR_INVALID_PTX);
    must_fail(load(".version 9.5\n"), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    must_fail(load("no kernels"), CUDA_ERROR_INVALID_IMAGE);
    must_fail(load("\x7f" "ELF"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    CUfunction function;
    must_fail(cuModuleGetFunction(&function, module, "thrice"), CUDA_ERROR_NOT_FOUND);
}
