// A scenario is a small program over the driver's API. It passes, computes wrong values, or ends with the driver's error.
#pragma once
#include <cuda.h>

#include <string>
#include <vector>

struct Scenario {
    const char* name;
    void (*run)();
};
std::vector<Scenario>& scenarios();

#define SCENARIO(name)                                                              \
    static void name();                                                             \
    static const bool registered_##name = (scenarios().push_back({#name, name}), true); \
    static void name()

/// Ends the scenario with the error's text, if it is one.
void must(CUresult code);
/// Ends the scenario unless the call gives this very error.
void must_fail(CUresult code, CUresult expected);
/// Ends it as "wrong values".
void expect(bool is_right, const char* what);

/// The device, a context and the kernels of `kernels.cu`.
void open_device();
CUfunction kernel(const char* name);

/// What runs on a device's floats.
struct Floats {
    explicit Floats(size_t count);
    Floats(const std::vector<float>& values);
    CUdeviceptr at = 0;
    size_t count;
    std::vector<float> read() const;
    std::vector<float> read(CUstream stream) const;
};
CUstream new_stream(unsigned flags = CU_STREAM_NON_BLOCKING);
CUevent new_event();
/// Pinned host memory.
float* new_pinned(size_t count);

struct Shape {
    unsigned blocks = 1, threads = 128, shared_bytes = 0;
};
/// y and x, and n = the number of x's floats.
CUresult launch(const char* name, const Floats& y, const Floats& x, CUstream stream = nullptr, Shape shape = {});
std::vector<float> counting(size_t count);
