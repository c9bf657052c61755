// Streams, events, memory in stream order: what a device may do, and what programs forget.
#include "scenario.h"

namespace {

constexpr size_t COUNT = 256;

/// One stream doubles, another doubles again; `wait` says whether it waits.
void two_streams(bool waits) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    CUevent done = new_event();
    Floats x(counting(COUNT)), y(counting(COUNT)), z(counting(COUNT));
    must(launch("twice", y, x, first, {2}));
    must(cuEventRecord(done, first));
    if (waits) must(cuStreamWaitEvent(second, done, 0));
    must(launch("twice", z, y, second, {2}));
    std::vector<float> values = z.read(second);
    must(cuCtxSynchronize());
    expect(values[COUNT - 1] == 4.0f * COUNT, "the second stream ran first");
}

}  // namespace

SCENARIO(an_event_orders_two_streams) { two_streams(true); }
SCENARIO(bad_missing_event) { two_streams(false); }

SCENARIO(queueing_never_executes) {
    open_device();
    CUstream stream = new_stream();
    Floats x(counting(COUNT));
    float* seen = new_pinned(COUNT);
    seen[0] = -1.0f;
    must(cuMemcpyDtoHAsync(seen, x.at, COUNT * sizeof(float), stream));
    expect(seen[0] == -1.0f, "a copy ran in the call that queued it");
    must(cuStreamSynchronize(stream));
    expect(seen[0] == 1.0f, "a copy did not run");
}

SCENARIO(a_host_wait_orders_what_is_queued_later) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    CUevent done = new_event();
    Floats x(counting(COUNT)), y(counting(COUNT)), z(counting(COUNT));
    must(launch("twice", y, x, first, {2}));
    must(cuEventRecord(done, first));
    must(cuEventSynchronize(done));
    must(launch("twice", z, y, second, {2}));
    expect(z.read(second)[0] == 4.0f, "values");
}

SCENARIO(a_successful_query_orders_what_is_queued_later) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    Floats x(counting(COUNT)), y(counting(COUNT)), z(counting(COUNT));
    must(launch("twice", y, x, first, {2}));
    CUresult answer;
    int polls = 0;
    while ((answer = cuStreamQuery(first)) == CUDA_ERROR_NOT_READY) polls++;
    must(answer);
    expect(polls < 100, "polling does not end");
    must(launch("twice", z, y, second, {2}));
    expect(z.read(second)[0] == 4.0f, "values");
}

SCENARIO(the_legacy_stream_orders_blocking_streams) {
    open_device();
    CUstream stream = new_stream(CU_STREAM_DEFAULT);
    Floats x(counting(COUNT)), y(counting(COUNT)), z(counting(COUNT));
    must(launch("twice", y, x, stream, {2}));
    must(launch("twice", z, y, nullptr, {2}));
    must(launch("add_one", z, z, stream, {2}));
    expect(z.read(stream)[0] == 5.0f, "values");
}

SCENARIO(bad_legacy_stream_beside_a_non_blocking_one) {
    open_device();
    CUstream stream = new_stream();
    Floats x(counting(COUNT)), y(counting(COUNT));
    must(launch("twice", y, x, stream, {2}));
    y.read();
    must(cuCtxSynchronize());
}

SCENARIO(bad_event_recorded_too_early) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    CUevent done = new_event();
    Floats x(counting(COUNT)), y(counting(COUNT)), z(counting(COUNT));
    must(cuEventRecord(done, first));
    must(launch("twice", y, x, first, {2}));
    must(cuStreamWaitEvent(second, done, 0));
    must(launch("twice", z, y, second, {2}));
    z.read(second);
    must(cuCtxSynchronize());
}

SCENARIO(bad_overwritten_while_another_stream_reads) {
    open_device();
    CUstream compute = new_stream(), store = new_stream();
    CUevent done = new_event();
    Floats x(counting(COUNT)), y(counting(COUNT));
    float* page = new_pinned(COUNT);
    must(launch("twice", y, x, compute, {2}));
    must(cuEventRecord(done, compute));
    must(cuStreamWaitEvent(store, done, 0));
    must(cuMemcpyDtoHAsync(page, y.at, COUNT * sizeof(float), store));
    must(launch("add_one", y, x, compute, {2}));
    must(cuCtxSynchronize());
    expect(page[0] == 2.0f, "the store took what came later");
}

SCENARIO(a_pinned_source_is_read_when_the_copy_runs) {
    open_device();
    CUstream stream = new_stream();
    Floats x(COUNT);
    float* page = new_pinned(COUNT);
    for (size_t i = 0; i < COUNT; i++) page[i] = 7.0f;
    must(cuMemcpyHtoDAsync(x.at, page, COUNT * sizeof(float), stream));
    must(cuStreamSynchronize(stream));
    page[0] = 9.0f;
    expect(x.read(stream)[0] == 7.0f, "values");
}

SCENARIO(bad_pinned_source_reused_too_early) {
    open_device();
    CUstream stream = new_stream();
    Floats x(COUNT);
    float* page = new_pinned(COUNT);
    for (size_t i = 0; i < COUNT; i++) page[i] = 7.0f;
    must(cuMemcpyHtoDAsync(x.at, page, COUNT * sizeof(float), stream));
    page[3] = 9.0f;
    expect(x.read(stream)[3] == 7.0f, "the copy took what was written later");
}

SCENARIO(bad_pinned_memory_freed_too_early) {
    open_device();
    CUstream stream = new_stream();
    Floats x(COUNT);
    float* page = new_pinned(COUNT);
    must(cuMemcpyHtoDAsync(x.at, page, COUNT * sizeof(float), stream));
    must(cuMemFreeHost(page));
    must(cuStreamSynchronize(stream));
}

SCENARIO(a_pageable_source_is_read_in_the_call) {
    open_device();
    CUstream stream = new_stream();
    Floats x(COUNT);
    std::vector<float> page(COUNT, 7.0f);
    must(cuMemcpyHtoDAsync(x.at, page.data(), COUNT * sizeof(float), stream));
    page[0] = 9.0f;
    expect(x.read(stream)[0] == 7.0f, "values");
}

SCENARIO(allocations_and_frees_keep_stream_order) {
    open_device();
    CUstream stream = new_stream();
    Floats x(counting(COUNT)), z(COUNT), y(1);
    must(cuMemAllocAsync(&y.at, COUNT * sizeof(float), stream));
    y.count = COUNT;
    must(launch("twice", y, x, stream, {2}));
    must(launch("twice", z, y, stream, {2}));
    must(cuMemFreeAsync(y.at, stream));
    expect(z.read(stream)[0] == 4.0f, "values");
}

SCENARIO(bad_used_before_its_allocation) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    Floats y(1);
    must(cuMemAllocAsync(&y.at, COUNT * sizeof(float), first));
    must(cuMemsetD8Async(y.at, 0, COUNT * sizeof(float), second));
    must(cuStreamSynchronize(second));
    must(cuStreamSynchronize(first));
}

SCENARIO(bad_freed_while_another_stream_reads) {
    open_device();
    CUstream first = new_stream(), second = new_stream();
    CUevent there = new_event();
    Floats y(1), z(COUNT);
    must(cuMemAllocAsync(&y.at, COUNT * sizeof(float), first));
    y.count = COUNT;
    must(cuMemsetD8Async(y.at, 0, COUNT * sizeof(float), first));
    must(cuEventRecord(there, first));
    must(cuStreamWaitEvent(second, there, 0));
    must(launch("twice", z, y, second, {2}));
    must(cuMemFreeAsync(y.at, first));
    must(cuCtxSynchronize());
}

SCENARIO(addresses_are_never_used_again) {
    open_device();
    CUdeviceptr last = 0;
    for (int i = 0; i < 100; i++) {
        CUdeviceptr now;
        must(cuMemAlloc(&now, 1 << 20));
        expect(now > last && now % 256 == 0, "an address came back");
        last = now;
        must(cuMemFree(now));
    }
}

SCENARIO(bad_copy_past_the_end) {
    open_device();
    Floats x(COUNT);
    std::vector<float> page(COUNT + 1);
    must(cuMemcpyHtoD(x.at, page.data(), (COUNT + 1) * sizeof(float)));
}

SCENARIO(a_kernel_reads_pinned_memory) {
    open_device();
    Floats y(COUNT), x(1);
    float* page = new_pinned(COUNT);
    for (size_t i = 0; i < COUNT; i++) page[i] = 3.0f;
    x.at = reinterpret_cast<CUdeviceptr>(page);
    x.count = COUNT;
    must(launch("twice", y, x, nullptr, {2}));
    expect(y.read()[COUNT - 1] == 6.0f, "values");
}

SCENARIO(a_host_function_runs_in_stream_order) {
    open_device();
    CUstream stream = new_stream();
    Floats x(counting(COUNT));
    float* page = new_pinned(COUNT);
    static float seen;
    must(cuMemcpyDtoHAsync(page, x.at, COUNT * sizeof(float), stream));
    must(cuLaunchHostFunc(stream, [](void* page) { seen = static_cast<float*>(page)[1]; }, page));
    must(cuStreamSynchronize(stream));
    expect(seen == 2.0f, "values");
}

SCENARIO(memory_has_an_end) {
    open_device();
    size_t free, total;
    must(cuMemGetInfo(&free, &total));
    CUdeviceptr all, more;
    must(cuMemAlloc(&all, free));
    must_fail(cuMemAlloc(&more, 1), CUDA_ERROR_OUT_OF_MEMORY);
    must(cuMemFree(all));
    must(cuMemAlloc(&more, 1));
}
