#include "text.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

namespace cuemu {

std::string text(const char* format, ...) {
    char buffer[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    return buffer;
}

std::string source_line(const void* return_address) {
    Dl_info library;
    if (return_address == nullptr || dladdr(return_address, &library) == 0) return "?";
    auto offset = static_cast<const char*>(return_address) - static_cast<const char*>(library.dli_fbase) - 1;
    std::string command = text("addr2line -s -i -e '%s' 0x%lx 2>/dev/null", library.dli_fname, (unsigned long)offset);
    FILE* pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return "?";
    // From the innermost function that was inlined to the outermost: the first that is the kernel's own.
    std::string found;
    for (char line[512]; fgets(line, sizeof line, pipe) != nullptr;) {
        bool is_wrapper = strstr(line, "cuda_on_host.h") != nullptr || strstr(line, "device.cuh") != nullptr;
        if (found.empty() && !is_wrapper) found = line;
    }
    pclose(pipe);
    return found.empty() ? "?" : found.substr(0, found.find_first_of(" \n"));
}

}  // namespace cuemu
