// `scenarios NAME SETTINGS...` runs the scenario once for each of the settings, each in a process of its own, and prints a line of
// JSON for each. `scenarios --list` prints the names.
#include "scenario.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

std::vector<Scenario>& scenarios() {
    static std::vector<Scenario> all;
    return all;
}

namespace {

CUmodule module;
/// Where the process that runs a scenario writes how it ended.
int report;

[[noreturn]] void end(const char* outcome, const std::string& message) {
    std::string text = std::string(outcome) + '\n' + message;
    if (write(report, text.data(), text.size()) < 0) _exit(2);
    _exit(0);
}

}  // namespace

void must(CUresult code) {
    if (code == CUDA_SUCCESS) return;
    const char *name = "", *words = "";
    cuGetErrorName(code, &name);
    cuGetErrorString(code, &words);
    end("error", std::string(name) + ": " + words);
}

void must_fail(CUresult code, CUresult expected) {
    if (code != expected) end("wrong values", "the call gave " + std::to_string(int(code)) + " in place of " + std::to_string(int(expected)));
}

void expect(bool is_right, const char* what) {
    if (!is_right) end("wrong values", what);
}

/// The kernels' PTX as far as the emulator reads it.
static std::string ptx() {
    static const char* const names[] = {
        "twice", "add_one", "reverse", "sum_of_blocks", "sum_of_warp", "sum_by_shuffles", "neighbours_in_a_warp", "votes", "shuffles",
        "half_the_block_leaves", "staged", "matrix_product", "bad_no_barrier", "bad_write_after_read", "bad_no_syncwarp",
        "bad_read_past_the_end", "bad_write_past_the_end", "bad_far_read", "bad_shared_past_the_end", "bad_own_array", "bad_alignment",
        "bad_divergence", "bad_barrier_in_a_branch", "bad_lane_not_in_mask", "bad_blocks_add", "bad_blocks_write_what_others_read",
        "bad_unwritten", "bad_copy_not_waited_for", "bad_copy_without_barrier", "bad_copy_left_behind",
        "bad_zeros_not_waited_for", "bad_zeros_left_behind", "bad_shift"};
    std::string text = ".version 8.0\n.target sm_80\n";
    for (const char* name : names)
        text += std::string(".visible .entry ") + name + "(.param .u64 a, .param .u64 b, .param .u32 c)\n.maxntid 256, 1, 1\n{\n}\n";
    return text;
}

void open_device() {
    CUdevice device;
    CUcontext context;
    must(cuInit(0));
    must(cuDeviceGet(&device, 0));
    must(cuDevicePrimaryCtxRetain(&context, device));
    must(cuCtxSetCurrent(context));
    must(cuModuleLoadData(&module, ptx().c_str()));
}

CUfunction kernel(const char* name) {
    CUfunction function;
    must(cuModuleGetFunction(&function, module, name));
    return function;
}

Floats::Floats(size_t size) : count(size) { must(cuMemAlloc(&at, count * sizeof(float))); }

Floats::Floats(const std::vector<float>& values) : Floats(values.size()) {
    must(cuMemcpyHtoD(at, values.data(), count * sizeof(float)));
}

std::vector<float> Floats::read() const {
    std::vector<float> values(count);
    must(cuMemcpyDtoH(values.data(), at, count * sizeof(float)));
    return values;
}

std::vector<float> Floats::read(CUstream stream) const {
    std::vector<float> values(count);
    must(cuMemcpyDtoHAsync(values.data(), at, count * sizeof(float), stream));
    return values;
}

CUstream new_stream(unsigned flags) {
    CUstream stream;
    must(cuStreamCreate(&stream, flags));
    return stream;
}

CUevent new_event() {
    CUevent event;
    must(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    return event;
}

float* new_pinned(size_t count) {
    void* memory;
    must(cuMemHostAlloc(&memory, count * sizeof(float), 0));
    return static_cast<float*>(memory);
}

CUresult launch(const char* name, const Floats& y, const Floats& x, CUstream stream, Shape shape) {
    CUdeviceptr to = y.at, from = x.at;
    int count = int(x.count);
    void* arguments[] = {&to, &from, &count};
    return cuLaunchKernel(kernel(name), shape.blocks, 1, 1, shape.threads, 1, 1, shape.shared_bytes, stream, arguments, nullptr);
}

std::vector<float> counting(size_t count) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; i++) values[i] = float(i + 1);
    return values;
}

namespace {

std::string quoted(const std::string& text) {
    std::string all = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') all += '\\';
        if (c == '\n') all += "\\n";
        else all += c;
    }
    return all + '"';
}

void run(const Scenario& scenario, const char* settings) {
    int ends[2];
    if (pipe(ends) != 0) exit(2);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        report = ends[1];
        setenv("CUDA_EMULATOR", settings, 1);
        // What the emulator prints is in the error's text, too.
        if (freopen("/dev/null", "w", stderr) == nullptr) _exit(2);
        scenario.run();
        end("passes", "");
    }
    close(ends[1]);
    std::string text;
    char buffer[4096];
    for (ssize_t count; (count = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(count));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (text.empty()) text = "crashed\nsignal " + std::to_string(WTERMSIG(status));
    size_t line = text.find('\n');
    printf("{\"settings\":%s,\"outcome\":%s,\"message\":%s}\n", quoted(settings).c_str(), quoted(text.substr(0, line)).c_str(), quoted(text.substr(line + 1)).c_str());
    fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    for (const Scenario& scenario : scenarios()) {
        if (count == 2 && strcmp(arguments[1], "--list") == 0) puts(scenario.name);
        if (count < 3 || strcmp(arguments[1], scenario.name) != 0) continue;
        for (int i = 2; i < count; i++) run(scenario, arguments[i]);
        return 0;
    }
    return count == 2 ? 0 : 2;
}
