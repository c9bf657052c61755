// Runs all blocks of a launch: in the seed's order, on one OS thread where accesses are checked, else on several.
#pragma once
#include <string>

namespace cuemu {

struct Launch;

/// Empty, or the first mistake of a block.
std::string run_blocks(const Launch& launch);

}  // namespace cuemu
