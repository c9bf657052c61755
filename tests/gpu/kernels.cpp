// Every CUDA kernel, as the PTX that ships, against plain loops on random input; then timings by events. Needs a driver and
// nothing else: `tests/gpu/kernels.sh`. `--check` leaves the timings out.
#include <chrono>

#include "driver.h"
#include "fragments.h"
#include "linear.h"
#include "attention.h"
#include "reference.h"
#include "rows.h"
#include "sample.h"

Driver* driver;

int main(int count, char** arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: kernels PTX [--check]\n");
    return 2;
  }
  Driver opened;
  driver = &opened;
  const auto start = std::chrono::steady_clock::now();
  driver->load(arguments[1]);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  // The driver makes machine code of the PTX, unless it has kept it from a run before.
  printf("%s: kernels loaded in %.1f s\n", driver->name.c_str(), seconds.count());
  check_rows();
  check_linear();
  check_attention();
  check_sample();
  if (count == 2) {
    time_linear();
    time_attention();
    time_sample();
  }
  printf("%d passed, %d failed\n", checks - failures, failures);
  return failures > 0;
}
