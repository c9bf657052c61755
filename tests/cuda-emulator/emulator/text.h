// Words for reports.
#pragma once
#include <string>

namespace cuemu {

/// As sprintf.
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// `attention.cu:51` of a return address in the kernels' library, "?" where nothing is known.
std::string source_line(const void* return_address);

}  // namespace cuemu
