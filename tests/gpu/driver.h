// The dozen functions of the CUDA driver that the kernel check needs, opened at run time: it builds with any C++17 compiler and
// runs on a real driver as on the emulated one.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

class Driver {
 public:
  Driver() : library(dlopen("libcuda.so.1", RTLD_NOW)) {
    if (library == nullptr) {
      fprintf(stderr, "there is no CUDA driver: %s\n", dlerror());
      exit(2);
    }
    find(cuInit, "cuInit");
    find(cuDeviceGet, "cuDeviceGet");
    find(cuDeviceGetName, "cuDeviceGetName");
    find(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
    find(cuCtxSetCurrent, "cuCtxSetCurrent");
    find(cuModuleLoadData, "cuModuleLoadData");
    find(cuModuleGetFunction, "cuModuleGetFunction");
    find(cuMemAlloc, "cuMemAlloc_v2");
    find(cuMemFree, "cuMemFree_v2");
    find(cuMemcpyHtoD, "cuMemcpyHtoD_v2");
    find(cuMemcpyDtoH, "cuMemcpyDtoH_v2");
    find(cuLaunchKernel, "cuLaunchKernel");
    find(cuCtxSynchronize, "cuCtxSynchronize");
    find(cuEventCreate, "cuEventCreate");
    find(cuEventRecord, "cuEventRecord");
    find(cuEventSynchronize, "cuEventSynchronize");
    find(cuEventElapsedTime, "cuEventElapsedTime");
    find(cuStreamCreate, "cuStreamCreate");
    check(cuInit(0), "cuInit");
    int device;
    check(cuDeviceGet(&device, 0), "cuDeviceGet");
    char text[128] = "?";
    check(cuDeviceGetName(text, sizeof text, device), "cuDeviceGetName");
    name = text;
    void* context;
    check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    check(cuStreamCreate(&stream, 1), "cuStreamCreate");
    for (void*& event : events) check(cuEventCreate(&event, 0), "cuEventCreate");
  }

  void load(const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::string ptx((std::istreambuf_iterator<char>(file)), {});
    if (ptx.empty()) {
      fprintf(stderr, "%s is not there\n", path);
      exit(2);
    }
    check(cuModuleLoadData(&module, ptx.c_str()), path);
  }

  void* function(const std::string& kernel) {
    void* function;
    check(cuModuleGetFunction(&function, module, kernel.c_str()), kernel.c_str());
    return function;
  }

  struct Size {
    unsigned x = 1, y = 1, z = 1;
  };

  template <class... Arguments>
  void launch(const std::string& kernel, Size grid, unsigned threads, Arguments... arguments) {
    void* values[] = {&arguments...};
    check(cuLaunchKernel(function(kernel), grid.x, grid.y, grid.z, threads, 1, 1, 0, stream, values, nullptr),
          kernel.c_str());
  }

  void wait() { check(cuCtxSynchronize(), "cuCtxSynchronize"); }

  /// Microseconds of one call, the mean of `times` after a first one.
  template <class Work>
  double time(int times, Work work) {
    work();
    check(cuEventRecord(events[0], stream), "cuEventRecord");
    for (int i = 0; i < times; i++) work();
    check(cuEventRecord(events[1], stream), "cuEventRecord");
    check(cuEventSynchronize(events[1]), "cuEventSynchronize");
    float milliseconds;
    check(cuEventElapsedTime(&milliseconds, events[0], events[1]), "cuEventElapsedTime");
    return 1000.0 * milliseconds / times;
  }

  uint64_t allocate(size_t bytes) {
    uint64_t address;
    check(cuMemAlloc(&address, bytes), "cuMemAlloc");
    return address;
  }
  void release(uint64_t address) { check(cuMemFree(address), "cuMemFree"); }
  void write(uint64_t to, const void* from, size_t bytes) { check(cuMemcpyHtoD(to, from, bytes), "cuMemcpyHtoD"); }
  void read(void* to, uint64_t from, size_t bytes) {
    wait();
    check(cuMemcpyDtoH(to, from, bytes), "cuMemcpyDtoH");
  }

  std::string name;

 private:
  template <class Function>
  void find(Function*& to, const char* symbol) {
    to = reinterpret_cast<Function*>(dlsym(library, symbol));
    if (to != nullptr) return;
    fprintf(stderr, "the CUDA driver has no %s\n", symbol);
    exit(2);
  }
  static void check(int code, const char* what) {
    if (code == 0) return;
    fprintf(stderr, "%s: CUDA error %d\n", what, code);
    exit(1);
  }

  void* library;
  void *module = nullptr, *stream = nullptr, *events[2];
  int (*cuInit)(unsigned);
  int (*cuDeviceGet)(int*, int);
  int (*cuDeviceGetName)(char*, int, int);
  int (*cuDevicePrimaryCtxRetain)(void**, int);
  int (*cuCtxSetCurrent)(void*);
  int (*cuModuleLoadData)(void**, const void*);
  int (*cuModuleGetFunction)(void**, void*, const char*);
  int (*cuMemAlloc)(uint64_t*, size_t);
  int (*cuMemFree)(uint64_t);
  int (*cuMemcpyHtoD)(uint64_t, const void*, size_t);
  int (*cuMemcpyDtoH)(void*, uint64_t, size_t);
  int (*cuLaunchKernel)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                        void**);
  int (*cuCtxSynchronize)();
  int (*cuEventCreate)(void**, unsigned);
  int (*cuEventRecord)(void*, void*);
  int (*cuEventSynchronize)(void*);
  int (*cuEventElapsedTime)(float*, void*, void*);
  int (*cuStreamCreate)(void**, unsigned);
};

extern Driver* driver;

/// An array on the device.
template <class T>
class Array {
 public:
  explicit Array(size_t count) : count(count), address(driver->allocate(count * sizeof(T) + 16)) {}
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    driver->write(address, values.data(), count * sizeof(T));
  }
  Array(const Array&) = delete;
  ~Array() { driver->release(address); }
  std::vector<T> read() const {
    std::vector<T> values(count);
    driver->read(values.data(), address, count * sizeof(T));
    return values;
  }
  const size_t count;
  const uint64_t address;
};
