// Initialisation, devices, contexts, errors.
#include "entry.h"

#include "../emulator/device_memory.h"
#include "../emulator/library.h"
#include "../emulator/multiprocessor.h"
#include "../emulator/text.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <map>

using namespace cuemu;

thread_local CUcontext cuemu::current_context = nullptr;

namespace {

bool is_initialised = false;

CUcontext primary(CUdevice device) { return reinterpret_cast<CUcontext>(uintptr_t(0x1000 + device)); }

CUresult check_device(CUdevice device) {
    if (!is_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return device >= 0 && device < config().devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

ENTRY cuInit(unsigned) {
    CALL_OF_ANY_THREAD;
    std::string why = load_kernels();
    if (!why.empty()) {
        fprintf(stderr, "cuda-emulator: the kernels cannot be loaded: %s\n", why.c_str());
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (config().devices == 0) return CUDA_ERROR_NO_DEVICE;
    device_memory().is_checked = kernels_are_checked();
    is_initialised = true;
    return CUDA_SUCCESS;
}

ENTRY cuDriverGetVersion(int* version) {
    *version = config().driver;
    return CUDA_SUCCESS;
}

ENTRY cuDeviceGetCount(int* count) {
    CALL_OF_ANY_THREAD;
    *count = config().devices;
    return is_initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

ENTRY cuDeviceGet(CUdevice* device, int ordinal) {
    CALL_OF_ANY_THREAD;
    *device = ordinal;
    return check_device(ordinal);
}

ENTRY cuDeviceGetName(char* name, int length, CUdevice device) {
    CALL_OF_ANY_THREAD;
    snprintf(name, size_t(length), "emulated device %d", device);
    return check_device(device);
}

ENTRY cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    CALL_OF_ANY_THREAD;
    memset(uuid, device, sizeof *uuid);
    return check_device(device);
}
#undef cuDeviceGetUuid
ENTRY cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

ENTRY cuDeviceTotalMem(size_t* bytes, CUdevice device) {
    CALL_OF_ANY_THREAD;
    *bytes = config().memory;
    return check_device(device);
}

ENTRY cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    CALL_OF_ANY_THREAD;
    // Of an A100, but for the few multiprocessors.
    static const std::map<int, int> values = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 163 << 10},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 164 << 10},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 4},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
        {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
    };
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) *value = config().capability / 10;
    else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) *value = config().capability % 10;
    else *value = values.contains(attribute) ? values.at(attribute) : 0;
    return check_device(device);
}

ENTRY cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    CALL_OF_ANY_THREAD;
    *context = primary(device);
    return check_device(device);
}

ENTRY cuDevicePrimaryCtxRelease(CUdevice device) {
    CALL_OF_ANY_THREAD;
    return check_device(device);
}

ENTRY cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned) {
    CALL_OF_ANY_THREAD;
    return check_device(device);
}

ENTRY cuCtxSetCurrent(CUcontext context) {
    CALL_OF_ANY_THREAD;
    current_context = context;
    return CUDA_SUCCESS;
}

ENTRY cuCtxGetCurrent(CUcontext* context) {
    CALL_OF_ANY_THREAD;
    *context = current_context;
    return CUDA_SUCCESS;
}

ENTRY cuCtxGetDevice(CUdevice* device) {
    CALL_OF_ANY_THREAD;
    if (current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    *device = CUdevice(reinterpret_cast<uintptr_t>(current_context) - 0x1000);
    return CUDA_SUCCESS;
}

ENTRY cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    CALL;
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
}

ENTRY cuCtxSynchronize() {
    CALL;
    NOT_IN_CAPTURE;
    return result(device().wait_all());
}

ENTRY cuGetErrorName(CUresult code, const char** name) {
    static const std::map<int, const char*> names = {
        {0, "CUDA_SUCCESS"},
        {1, "CUDA_ERROR_INVALID_VALUE"},
        {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {3, "CUDA_ERROR_NOT_INITIALIZED"},
        {100, "CUDA_ERROR_NO_DEVICE"},
        {101, "CUDA_ERROR_INVALID_DEVICE"},
        {200, "CUDA_ERROR_INVALID_IMAGE"},
        {201, "CUDA_ERROR_INVALID_CONTEXT"},
        {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
        {218, "CUDA_ERROR_INVALID_PTX"},
        {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
        {400, "CUDA_ERROR_INVALID_HANDLE"},
        {500, "CUDA_ERROR_NOT_FOUND"},
        {600, "CUDA_ERROR_NOT_READY"},
        {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
        {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
        {719, "CUDA_ERROR_LAUNCH_FAILED"},
        {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"},
        {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
        {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
        {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
        {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
        {907, "CUDA_ERROR_CAPTURED_EVENT"},
        {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
        {999, "CUDA_ERROR_UNKNOWN"},
    };
    auto found = names.find(code);
    *name = found == names.end() ? "an error of the emulated driver" : found->second;
    return CUDA_SUCCESS;
}

ENTRY cuGetErrorString(CUresult code, const char** words) {
    std::lock_guard<std::recursive_mutex> lock(device().mutex);
    if (code != 0 && code == device().error) {
        *words = device().error_text.c_str();
        return CUDA_SUCCESS;
    }
    return cuGetErrorName(code, words);
}

/// As the driver does: the plain name means the newest form that the version has.
ENTRY cuGetProcAddress(const char* symbol, void** address, int version, cuuint64_t, CUdriverProcAddressQueryResult* status) {
    static void* const self = [] {
        Dl_info own;
        dladdr(reinterpret_cast<void*>(&cuInit), &own);
        return dlopen(own.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }();
    *address = nullptr;
    // Of 12.8; 13.0 has another form, which is not here.
    bool is_batch = strcmp(symbol, "cuMemcpyBatchAsync") == 0;
    if (is_batch && (std::min(version, config().driver) < 12080 || version >= 13000)) {
        if (status != nullptr) *status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
        return CUDA_ERROR_NOT_FOUND;
    }
    for (const char* suffix : {"_v2", ""})
        if (*address == nullptr) *address = dlsym(self, (std::string(symbol) + suffix).c_str());
    if (status != nullptr) *status = *address != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *address != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
