#include "clocks.h"

#include "text.h"

#include <algorithm>

namespace cuemu {

void join(Clock& into, const Clock& other) {
    if (into.size() < other.size()) into.resize(other.size());
    for (size_t i = 0; i < other.size(); i++) into[i] = std::max(into[i], other[i]);
}

unsigned Clocks::new_line(const char* kind) {
    auto is_of_kind = [kind](const Line& line) { return line.name.rfind(kind, 0) == 0; };
    auto number = std::count_if(lines.begin(), lines.end(), is_of_kind);
    lines.push_back({text("%s %td", kind, number)});
    return unsigned(lines.size() - 1);
}

uint32_t Clocks::add(unsigned line, Clock& clock, std::string name) {
    if (clock.size() <= line) clock.resize(line + 1);
    clock[line] = ++lines[line].number;
    operations.push_back({line, clock[line], clock, std::move(name)});
    return uint32_t(operations.size() - 1);
}

bool Clocks::is_before(uint32_t first, uint32_t second) const {
    const Operation &a = operations[first], &b = operations[second];
    return a.line == b.line || (a.line < b.clock.size() && b.clock[a.line] >= a.number);
}

std::string Clocks::describe(uint32_t operation) const {
    const Operation& found = operations[operation];
    return text("%s (%s, operation %u)", found.name.c_str(), lines[found.line].name.c_str(), found.number);
}

Clocks& clocks() {
    static Clocks all;
    return all;
}

}  // namespace cuemu
