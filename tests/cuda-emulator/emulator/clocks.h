// What is ordered before what: every operation carries a vector clock, joined over the order of its stream, the events it waits
// for and what the host has waited for. So a missing event is found on every seed, also where the order happened to be right.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cuemu {

/// Of each line (a stream, or a branch of a graph): the number of its last operation that comes before.
using Clock = std::vector<uint32_t>;

void join(Clock& into, const Clock& other);

class Clocks {
public:
    /// A new line of operations that are ordered among themselves: a `kind` of which there may be several.
    unsigned new_line(const char* kind);
    /// An operation after all that `clock` holds, which then holds it too.
    uint32_t add(unsigned line, Clock& clock, std::string name);
    bool is_before(uint32_t first, uint32_t second) const;
    /// `kernel add_f32 (stream 2, operation 7)`.
    std::string describe(uint32_t operation) const;
    const std::string& name(uint32_t operation) const { return operations[operation].name; }

private:
    struct Operation {
        unsigned line;
        uint32_t number;
        Clock clock;
        std::string name;
    };
    struct Line {
        std::string name;
        uint32_t number = 0;
    };
    std::vector<Line> lines;
    /// 0 is no operation.
    std::vector<Operation> operations{1};
};

Clocks& clocks();

}  // namespace cuemu
