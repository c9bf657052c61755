#include "config.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace cuemu {
namespace {

[[noreturn]] void refuse(const std::string& part, const char* allowed) {
    fprintf(stderr, "cuda-emulator: CUDA_EMULATOR: \"%s\": allowed is %s\n", part.c_str(), allowed);
    exit(2);
}

uint64_t number(const std::string& part, const std::string& text) {
    char* end = nullptr;
    uint64_t value = strtoull(text.c_str(), &end, 10);
    if (text.empty() || *end != 0) refuse(part, "a whole number");
    return value;
}

/// `cuMemAlloc_v2@3=2` or `kernel:add_f32@1=700`.
Injected failure(const std::string& part, const std::string& text) {
    size_t at = text.rfind('@'), equals = text.find('=', at == std::string::npos ? 0 : at);
    if (at == std::string::npos || equals == std::string::npos) refuse(part, "fail:WHAT@NUMBER=CODE");
    return {text.substr(0, at), unsigned(number(part, text.substr(at + 1, equals - at - 1))),
            int(number(part, text.substr(equals + 1)))};
}

Config read(const char* text) {
    Config read;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        if (part.rfind("fail:", 0) == 0) {
            read.failures.push_back(failure(part, part.substr(5)));
            continue;
        }
        size_t equals = part.find('=');
        std::string key = part.substr(0, equals);
        std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
        if (key == "seed") read.seed = number(part, value);
        else if (key == "memory") read.memory = number(part, value) << 20;
        else if (key == "driver") read.driver = int(number(part, value));
        else if (key == "capability") read.capability = int(number(part, value));
        else if (key == "devices") read.devices = int(number(part, value));
        else if (key == "workers") read.workers = int(number(part, value));
        else if (key == "kernels") read.kernels = value;
        else if (key == "threads") {
            if (value == "first") read.threads = Threads::first;
            else if (value == "random") read.threads = Threads::random;
            else if (value == "greedy") read.threads = Threads::greedy;
            else refuse(part, "threads=first, random or greedy");
        } else if (key == "streams") {
            if (value == "lazy") read.streams = Streams::lazy;
            else if (value == "others") read.streams = Streams::others;
            else if (value == "random") read.streams = Streams::random;
            else refuse(part, "streams=lazy, others or random");
        } else {
            refuse(part, "seed, threads, streams, memory (MiB), driver, capability, devices, workers, kernels, fail:WHAT@NUMBER=CODE");
        }
    }
    return read;
}

}  // namespace

Config& config() {
    static Config config = [] {
        const char* text = getenv("CUDA_EMULATOR");
        return read(text == nullptr ? "" : text);
    }();
    return config;
}

int injected(const char* what) {
    for (Injected& failure : config().failures) {
        if (failure.what == what && ++failure.seen == failure.number) return failure.code;
    }
    return 0;
}

unsigned Random::below(unsigned end) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return unsigned((state * 0x2545F4914F6CDD1Du >> 32) % end);
}

}  // namespace cuemu
