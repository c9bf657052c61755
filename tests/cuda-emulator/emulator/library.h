// The library of kernels that were compiled for the host: what is in it, and how it compares with the PTX that ships.
#pragma once
#include "../shim/cuda_on_host.h"

#include <map>
#include <string>
#include <vector>

namespace cuemu {

struct Launch;

/// Opens the library, once. Empty, or why that failed.
std::string load_kernels();
const Kernel* find_kernel(const std::string& name);
/// Whether the kernels call the hooks before each access.
bool kernels_are_checked();
/// Whether the address is an argument of the launch or a constant of the library.
bool is_constant(const void* address, const Launch& launch);

/// What a module's PTX says of one of its kernels.
struct Entry {
    std::vector<unsigned> sizes;
    /// `.maxntid`, or 1024.
    unsigned most_threads = 1024;
};
using Module = std::map<std::string, Entry>;

Module read_ptx(const char* text);
/// Empty, or the first difference between the PTX and the host's kernels.
std::string compare(const Module& module);

}  // namespace cuemu
