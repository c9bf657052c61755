// Memory of the device, pinned memory of the host, and copies.
#include "entry.h"

#include "../emulator/device_memory.h"
#include "../emulator/text.h"

#include <cstdint>
#include <cstring>
#include <vector>

using namespace cuemu;
using Kind = DeviceMemory::Kind;
using State = DeviceMemory::State;

namespace {

constexpr int ILLEGAL_ADDRESS = CUDA_ERROR_ILLEGAL_ADDRESS;

void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

size_t allocations = 0;

CUresult allocate(CUdeviceptr* address, size_t bytes, Kind kind, State state) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    allocations++;
    DeviceMemory::Allocation* found = device_memory().allocate(bytes, kind, state);
    if (found == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = reinterpret_cast<CUdeviceptr>(found->address);
    return CUDA_SUCCESS;
}

/// Whether the device reaches the bytes by itself, so that a copy of them can wait.
DeviceMemory::Allocation* pinned(const void* address) {
    DeviceMemory::Allocation* found = device_memory().holding(address);
    return found != nullptr && found->kind == Kind::pinned ? found : nullptr;
}

/// Reads `from` when the copy runs. What the host has changed in a pinned source since the call is a mistake of its own.
Run pinned_source(DeviceMemory::Allocation* source, void* to, const void* from, size_t bytes) {
    auto* start = static_cast<const char*>(from);
    std::shared_ptr<std::string> before;
    uint64_t version = source->version;
    if (device_memory().is_checked) before = std::make_shared<std::string>(start, bytes);
    return [=](uint32_t operation) {
        std::string wrong = device_memory().check_copy(from, bytes, false, operation);
        if (wrong.empty()) wrong = device_memory().check_copy(to, bytes, true, operation);
        if (wrong.empty() && before != nullptr && source->version == version) {
            size_t same = 0;
            while (same < bytes && (*before)[same] == start[same]) same++;
            if (same < bytes)
                wrong = text("the pinned source was changed at byte %zu between the call and the copy (%s)", same, source->name.c_str());
        }
        if (!wrong.empty()) {
            device().fail(ILLEGAL_ADDRESS, clocks().describe(operation) + ": " + wrong);
            return;
        }
        memcpy(to, from, bytes);
    };
}

Run plain_copy(void* to, const void* from, size_t bytes, bool checks_from, bool checks_to) {
    return [=](uint32_t operation) {
        std::string wrong;
        if (checks_from) wrong = device_memory().check_copy(from, bytes, false, operation);
        if (wrong.empty() && checks_to) wrong = device_memory().check_copy(to, bytes, true, operation);
        if (wrong.empty()) memmove(to, from, bytes);
        else device().fail(ILLEGAL_ADDRESS, clocks().describe(operation) + ": " + wrong);
    };
}

/// Pageable sources are read in the call.
CUresult to_device(CUdeviceptr to, const void* from, size_t bytes, Stream& stream) {
    device().stir();
    if (bytes == 0) return CUDA_SUCCESS;
    if (DeviceMemory::Allocation* source = pinned(from))
        return result(device().enqueue(stream, {"copy to the device", [=] { return pinned_source(source, pointer(to), from, bytes); }}));
    if (stream.capture != nullptr)
        return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a copy from pageable memory in a capture"));
    auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    Run run = [=](uint32_t operation) { plain_copy(pointer(to), staged->data(), bytes, false, true)(operation); };
    return result(device().enqueue(stream, {"copy to the device", [=] { return run; }}));
}

/// To pageable memory it is done when the call returns.
CUresult to_host(void* to, CUdeviceptr from, size_t bytes, Stream& stream) {
    device().stir();
    if (bytes == 0) return CUDA_SUCCESS;
    bool waits = pinned(to) == nullptr;
    if (waits && stream.capture != nullptr)
        return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a copy to pageable memory in a capture"));
    Run run = plain_copy(to, pointer(from), bytes, true, !waits);
    int error = device().enqueue(stream, {"copy to the host", [=] { return run; }});
    return result(error == 0 && waits ? device().wait(stream) : error);
}

CUresult on_device(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream& stream) {
    device().stir();
    if (bytes == 0) return CUDA_SUCCESS;
    Run run = plain_copy(pointer(to), pointer(from), bytes, true, true);
    return result(device().enqueue(stream, {"copy on the device", [=] { return run; }}));
}

CUresult fill(CUdeviceptr at, unsigned value, size_t count, size_t width, Stream& stream) {
    device().stir();
    Run run = [=](uint32_t operation) {
        std::string wrong = device_memory().check_copy(pointer(at), count * width, true, operation);
        if (!wrong.empty()) {
            device().fail(ILLEGAL_ADDRESS, clocks().describe(operation) + ": " + wrong);
            return;
        }
        if (width == 1) memset(pointer(at), int(value), count);
        else for (size_t i = 0; i < count; i++) memcpy(static_cast<char*>(pointer(at)) + i * width, &value, width);
    };
    return result(device().enqueue(stream, {"fill", [=] { return run; }}));
}

/// Between any two places.
CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream& stream) {
    auto is_of_device = [](CUdeviceptr address) {
        DeviceMemory::Allocation* found = device_memory().holding(pointer(address));
        return found != nullptr && found->kind == Kind::device;
    };
    if (is_of_device(from)) return is_of_device(to) ? on_device(to, from, bytes, stream) : to_host(pointer(to), from, bytes, stream);
    return to_device(to, pointer(from), bytes, stream);
}

Stream& legacy() { return device().stream(nullptr); }

CUresult then_wait(CUresult queued) { return queued == CUDA_SUCCESS ? result(device().wait(legacy())) : queued; }

}  // namespace

/// For tests: how often memory was asked for, of the device or pinned. No driver has this.
extern "C" __attribute__((visibility("default"))) size_t cuemu_allocations() {
    std::lock_guard<std::recursive_mutex> lock(device().mutex);
    return allocations;
}

ENTRY cuMemGetInfo(size_t* free, size_t* total) {
    CALL;
    *total = config().memory;
    *free = *total - device_memory().bytes_in_use();
    return CUDA_SUCCESS;
}

ENTRY cuMemAlloc(CUdeviceptr* address, size_t bytes) {
    CALL;
    NOT_IN_CAPTURE;
    return allocate(address, bytes, Kind::device, State::live);
}

ENTRY cuMemFree(CUdeviceptr address) {
    CALL;
    NOT_IN_CAPTURE;
    if (address == 0) return CUDA_SUCCESS;
    if (int error = device().wait_all()) return result(error);
    DeviceMemory::Allocation* found = device_memory().begins_at(pointer(address));
    if (found == nullptr || found->state != State::live || found->kind != Kind::device) return CUDA_ERROR_INVALID_VALUE;
    device_memory().release(*found);
    return CUDA_SUCCESS;
}

ENTRY cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream handle) {
    CALL;
    Stream& stream = device().stream(handle);
    if (stream.capture != nullptr) return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "an allocation in a capture"));
    device().stir();
    CUresult done = allocate(address, bytes, Kind::device, State::not_yet);
    if (done != CUDA_SUCCESS) return done;
    DeviceMemory::Allocation* found = device_memory().begins_at(pointer(*address));
    Run run = [found](uint32_t operation) { device_memory().set_live(*found, operation); };
    return result(device().enqueue(stream, {"allocation", [run] { return run; }}));
}

ENTRY cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    CALL;
    Stream& stream = device().stream(handle);
    if (stream.capture != nullptr) return result(invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a free in a capture"));
    device().stir();
    DeviceMemory::Allocation* found = device_memory().begins_at(pointer(address));
    if (found == nullptr || found->kind != Kind::device) return CUDA_ERROR_INVALID_VALUE;
    Run run = [found](uint32_t operation) {
        std::string wrong = device_memory().check_copy(found->address, found->bytes, true, operation);
        if (wrong.empty()) device_memory().release(*found);
        else device().fail(ILLEGAL_ADDRESS, clocks().describe(operation) + ": " + wrong);
    };
    return result(device().enqueue(stream, {"free", [run] { return run; }}));
}

ENTRY cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    CALL;
    NOT_IN_CAPTURE;
    CUdeviceptr place = 0;
    CUresult done = allocate(&place, bytes, Kind::pinned, State::live);
    *address = pointer(place);
    return done;
}

ENTRY cuMemAllocHost(void** address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }

ENTRY cuMemFreeHost(void* address) {
    CALL;
    NOT_IN_CAPTURE;
    // Frees at once: a copy that is under way reads freed memory, which is what it would do.
    DeviceMemory::Allocation* found = device_memory().begins_at(address);
    if (found == nullptr || found->kind != Kind::pinned) return CUDA_ERROR_INVALID_VALUE;
    device_memory().release(*found);
    return CUDA_SUCCESS;
}

ENTRY cuMemHostRegister(void* address, size_t bytes, unsigned) {
    CALL;
    NOT_IN_CAPTURE;
    if (bytes == 0 || pinned(address) != nullptr) return CUDA_ERROR_INVALID_VALUE;
    device_memory().register_host(address, bytes);
    return CUDA_SUCCESS;
}

ENTRY cuMemHostUnregister(void* address) { return cuMemFreeHost(address); }

ENTRY cuMemHostGetDevicePointer(CUdeviceptr* address, void* host, unsigned) {
    CALL;
    if (pinned(host) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *address = reinterpret_cast<CUdeviceptr>(host);
    return CUDA_SUCCESS;
}

ENTRY cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    CALL;
    return to_device(to, from, bytes, device().stream(stream));
}

ENTRY cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALL;
    return to_host(to, from, bytes, device().stream(stream));
}

ENTRY cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALL;
    return on_device(to, from, bytes, device().stream(stream));
}

ENTRY cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALL;
    return copy(to, from, bytes, device().stream(stream));
}

/// `CUmemcpyAttributes` of cuda.h 12.8; the pinned one is older.
struct CopyAttributes {
    unsigned source_order;
    int source_location[2], target_location[2];
    unsigned flags;
};

/// As CUDA 12.8 has it. The order of the copies is the seed's: the documentation promises none.
ENTRY cuMemcpyBatchAsync(CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count, CopyAttributes* attributes, size_t* firsts,
                         size_t num_attributes, size_t* failed, CUstream handle) {
    CALL;
    *failed = SIZE_MAX;
    Stream& stream = device().stream(handle);
    if (&stream == &legacy() || count == 0 || num_attributes == 0 || num_attributes > count || firsts[0] != 0) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < num_attributes; i++) {
        bool ascends = i == 0 || (firsts[i - 1] < firsts[i] && firsts[i] < count);
        if (!ascends || attributes[i].source_order < 1 || attributes[i].source_order > 3 || attributes[i].flags > 1) return CUDA_ERROR_INVALID_VALUE;
    }
    std::vector<size_t> left(count);
    for (size_t i = 0; i < count; i++) left[i] = i;
    static Random random(config().seed ^ 0x62617463);
    for (; !left.empty(); left.pop_back()) {
        std::swap(left[random.below(unsigned(left.size()))], left.back());
        if (CUresult code = copy(to[left.back()], from[left.back()], bytes[left.back()], stream)) return code;
    }
    return CUDA_SUCCESS;
}

ENTRY cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    CALL;
    NOT_IN_CAPTURE;
    return then_wait(to_device(to, from, bytes, legacy()));
}

ENTRY cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    CALL;
    NOT_IN_CAPTURE;
    return then_wait(to_host(to, from, bytes, legacy()));
}

ENTRY cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    CALL;
    NOT_IN_CAPTURE;
    return on_device(to, from, bytes, legacy());
}

ENTRY cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t count, CUstream stream) {
    CALL;
    return fill(at, value, count, 1, device().stream(stream));
}

ENTRY cuMemsetD32Async(CUdeviceptr at, unsigned value, size_t count, CUstream stream) {
    CALL;
    return fill(at, value, count, 4, device().stream(stream));
}

ENTRY cuMemsetD8(CUdeviceptr at, unsigned char value, size_t count) {
    CALL;
    NOT_IN_CAPTURE;
    return fill(at, value, count, 1, legacy());
}

ENTRY cuMemsetD32(CUdeviceptr at, unsigned value, size_t count) {
    CALL;
    NOT_IN_CAPTURE;
    return fill(at, value, count, 4, legacy());
}
