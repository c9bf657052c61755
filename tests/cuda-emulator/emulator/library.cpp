#include "library.h"

#include "config.h"
#include "multiprocessor.h"
#include "text.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>

namespace cuemu {
namespace {

struct Range {
    uintptr_t from, to;
    bool holds(const void* address) const {
        auto at = reinterpret_cast<uintptr_t>(address);
        return at >= from && at < to;
    }
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

std::vector<Range>& images() {
    static std::vector<Range> all;
    return all;
}

int add_image(dl_phdr_info* info, size_t, void* base) {
    if (info->dlpi_addr != reinterpret_cast<uintptr_t>(base)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto& part = info->dlpi_phdr[i];
        if (part.p_type == PT_LOAD) images().push_back({info->dlpi_addr + part.p_vaddr, info->dlpi_addr + part.p_vaddr + part.p_memsz});
    }
    return 1;
}

/// `kernels.so` in the folder of this driver.
std::string beside_the_driver() {
    Dl_info own;
    if (dladdr(reinterpret_cast<const void*>(&load_kernels), &own) == 0) return "kernels.so";
    std::string path = own.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + "kernels.so";
}

unsigned bytes_of(const std::string& type) {
    unsigned digits = unsigned(atoi(type.c_str() + 1));
    return digits / 8;
}

}  // namespace

void register_kernel(const Kernel& kernel) { kernels()[kernel.name] = kernel; }

std::string load_kernels() {
    static std::string why = [] {
        std::string path = config().kernels.empty() ? beside_the_driver() : config().kernels;
        void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) return std::string(dlerror());
        if (kernels().empty()) return path + " has no kernels";
        Dl_info info;
        if (dladdr(reinterpret_cast<const void*>(kernels().begin()->second.call), &info) != 0) dl_iterate_phdr(add_image, info.dli_fbase);
        return std::string();
    }();
    return why;
}

const Kernel* find_kernel(const std::string& name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

bool kernels_are_checked() {
    for (const auto& [name, kernel] : kernels())
        if (kernel.is_checked) return true;
    return false;
}

bool is_constant(const void* address, const Launch& launch) {
    auto from = reinterpret_cast<uintptr_t>(launch.arguments);
    if (Range{from, from + launch.argument_bytes}.holds(address)) return true;
    for (const Range& image : images())
        if (image.holds(address)) return true;
    return false;
}

Module read_ptx(const char* text) {
    Module module;
    for (const char* at = text; (at = strstr(at, ".entry")) != nullptr;) {
        at += strlen(".entry");
        while (isspace(*at)) at++;
        const char* name_end = at + strcspn(at, " (\t\r\n");
        Entry& entry = module[std::string(at, name_end)];
        const char* close = strchr(name_end, ')');
        const char* body = strchr(name_end, '{');
        if (close == nullptr || body == nullptr) break;
        for (const char* parameter = strstr(name_end, ".param"); parameter != nullptr && parameter < close; parameter = strstr(parameter, ".param")) {
            parameter += strlen(".param");
            const char* end = parameter + strcspn(parameter, ",)");
            // The last type is the parameter's: `.param .align 4 .b8 name[12]`, `.param .u64 .ptr .global .align 4 name`.
            unsigned bytes = 0;
            for (const char* word = parameter; word < end; word++) {
                if (*word == '.' && strchr("usbf", word[1]) != nullptr && isdigit(word[2])) bytes = bytes_of(word + 1);
                if (*word == '[') bytes *= unsigned(atoi(word + 1));
            }
            entry.sizes.push_back(bytes);
        }
        const char* limit = strstr(close, ".maxntid");
        if (limit != nullptr && limit < body) {
            unsigned x = 1, y = 1, z = 1;
            sscanf(limit, ".maxntid %u, %u, %u", &x, &y, &z);
            entry.most_threads = x * y * z;
        }
        at = body;
    }
    return module;
}

std::string compare(const Module& module) {
    for (const auto& [name, entry] : module) {
        const Kernel* kernel = find_kernel(name);
        if (kernel == nullptr) return text("kernel %s is in the PTX, not in the host's library", name.c_str());
        std::vector<unsigned> sizes(kernel->sizes, kernel->sizes + kernel->num_parameters);
        if (sizes == entry.sizes) continue;
        auto list = [](const std::vector<unsigned>& values) {
            std::string all;
            for (unsigned value : values) all += (all.empty() ? "" : " ") + std::to_string(value);
            return all;
        };
        return text("kernel %s: the PTX has parameters of %s bytes, the host's library of %s", name.c_str(), list(entry.sizes).c_str(), list(sizes).c_str());
    }
    return {};
}

}  // namespace cuemu
