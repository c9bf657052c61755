// What every entry point begins with. Prototypes are NVIDIA's: each file includes cuda.h, so a parameter that differs is an
// error of the compiler.
#pragma once
#include "../emulator/device.h"
#include "../emulator/graph.h"

#include <cuda.h>

#define ENTRY extern "C" __attribute__((visibility("default"))) CUresult

namespace cuemu {

/// The calling thread's context, or null.
extern thread_local CUcontext current_context;

inline CUresult result(int code) { return static_cast<CUresult>(code); }

/// The lock that each call holds, and what it has to return at once: an injected failure, or an error that is final.
class Entering {
public:
    explicit Entering(const char* name) : lock(device().mutex) {
        code = injected(name);
        if ((code >= 700 && code < 900) || code == 999) device().fail(code, std::string("injected in ") + name);
        if (code == 0) code = device().error;
    }
    int code;

private:
    std::lock_guard<std::recursive_mutex> lock;
};

}  // namespace cuemu

/// Calls that ask for nothing but the driver itself.
#define CALL_OF_ANY_THREAD            \
    cuemu::Entering call(__func__);   \
    if (call.code != 0) return cuemu::result(call.code)
/// Calls that need a context on the calling thread.
#define CALL            \
    CALL_OF_ANY_THREAD; \
    if (cuemu::current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT
/// Calls that are not allowed while a stream is captured.
#define NOT_IN_CAPTURE \
    if (int refused = cuemu::refuse_while_capturing(__func__)) return cuemu::result(refused)
