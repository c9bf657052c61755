// Modules, functions, launches.
#include "entry.h"

#include "../emulator/blocks.h"
#include "../emulator/library.h"
#include "../emulator/multiprocessor.h"
#include "../emulator/text.h"

#include <cstdio>
#include <cstring>

using namespace cuemu;

namespace {

/// Shared memory of a block that needs no permission, and the most that can be had with one.
constexpr int PLAIN_SHARED = 48 << 10, MOST_SHARED = 163 << 10;

struct Function {
    const Kernel* kernel;
    Entry entry;
    int most_shared = PLAIN_SHARED;
};

/// Addresses of the arguments, and behind them the arguments, as they are at the call.
std::string pack(const Kernel& kernel, void** arguments) {
    std::string packed(size_t(kernel.num_parameters) * sizeof(void*), 0);
    for (int i = 0; i < kernel.num_parameters; i++) {
        packed.resize((packed.size() + 15) / 16 * 16);
        packed.append(static_cast<char*>(arguments[i]), kernel.sizes[i]);
    }
    return packed;
}

/// Fills in the addresses, once the arguments stay where they are.
void** unpack(const Kernel& kernel, std::string& packed) {
    auto** places = reinterpret_cast<void**>(packed.data());
    size_t at = size_t(kernel.num_parameters) * sizeof(void*);
    for (int i = 0; i < kernel.num_parameters; i++) {
        at = (at + 15) / 16 * 16;
        places[i] = packed.data() + at;
        at += kernel.sizes[i];
    }
    return places;
}

/// CUDA 12.0 takes PTX 8.0; later drivers take more (CUDA's release notes, "PTX ISA version").
bool takes_ptx(const char* image) {
    int major = 0, minor = 0;
    const char* version = strstr(image, ".version");
    if (version == nullptr || sscanf(version, ".version %d.%d", &major, &minor) != 2) return false;
    int newest = config().driver >= 13000 ? 90 + config().driver % 1000 / 10 : 80 + config().driver % 1000 / 10;
    return major * 10 + minor <= newest;
}

}  // namespace

ENTRY cuModuleLoadData(CUmodule* module, const void* image) {
    CALL;
    NOT_IN_CAPTURE;
    auto* words = static_cast<const char*>(image);
    if (memcmp(words, "\x7f" "ELF", 4) == 0) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    if (strstr(words, ".version") == nullptr) return CUDA_ERROR_INVALID_IMAGE;
    if (!takes_ptx(words)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    Module read = read_ptx(words);
    std::string difference = compare(read);
    if (!difference.empty()) {
        fprintf(stderr, "cuda-emulator: %s\n", difference.c_str());
        return CUDA_ERROR_INVALID_PTX;
    }
    *module = reinterpret_cast<CUmodule>(new Module(std::move(read)));
    return CUDA_SUCCESS;
}

ENTRY cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) { return cuModuleLoadData(module, image); }

/// Kept: functions of it may be queued.
ENTRY cuModuleUnload(CUmodule) {
    CALL;
    return CUDA_SUCCESS;
}

ENTRY cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    CALL;
    auto& read = *reinterpret_cast<Module*>(module);
    auto entry = read.find(name);
    if (entry == read.end()) return CUDA_ERROR_NOT_FOUND;
    *function = reinterpret_cast<CUfunction>(new Function{find_kernel(name), entry->second});
    return CUDA_SUCCESS;
}

ENTRY cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    CALL;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value < 0 || value > MOST_SHARED) return CUDA_ERROR_INVALID_VALUE;
    reinterpret_cast<Function*>(handle)->most_shared = value;
    return CUDA_SUCCESS;
}

ENTRY cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    CALL;
    auto* function = reinterpret_cast<Function*>(handle);
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK             ? int(function->entry.most_threads)
             : attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? function->most_shared
                                                                              : 0;
    return CUDA_SUCCESS;
}

ENTRY cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads, size_t) {
    CALL;
    *blocks = threads > 0 ? 2048 / threads : 0;
    return CUDA_SUCCESS;
}

ENTRY cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                     unsigned block_z, unsigned shared_bytes, CUstream stream, void** arguments, void** extra) {
    CALL;
    device().stir();
    auto* function = reinterpret_cast<Function*>(handle);
    const Kernel& kernel = *function->kernel;
    bool fits = grid_x > 0 && grid_y > 0 && grid_z > 0 && grid_y <= 65535 && grid_z <= 65535 && block_x > 0 && block_y > 0 && block_z > 0 &&
                block_z <= 64 && uint64_t(block_x) * block_y * block_z <= 1024 && int(shared_bytes) <= function->most_shared;
    if (!fits || extra != nullptr || (arguments == nullptr && kernel.num_parameters > 0)) return CUDA_ERROR_INVALID_VALUE;
    if (block_x * block_y * block_z > function->entry.most_threads) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    auto packed = std::make_shared<std::string>(pack(kernel, arguments));
    Run run = [=, &kernel](uint32_t operation) {
        if (int code = injected(("kernel:" + std::string(kernel.name)).c_str())) {
            device().fail(code, "injected in kernel " + std::string(kernel.name));
            return;
        }
        Launch launch{&kernel, unpack(kernel, *packed), packed->size(), dim3(grid_x, grid_y, grid_z), dim3(block_x, block_y, block_z), shared_bytes, operation, kernel.is_checked};
        std::string error = run_blocks(launch);
        if (!error.empty()) device().fail(CUDA_ERROR_ILLEGAL_ADDRESS, error);
    };
    return result(device().enqueue(device().stream(stream), {"kernel " + std::string(kernel.name), [run] { return run; }}));
}
