#!/usr/bin/env bash
# The CPU kernels' tests where a wrong access is an error: with memory that begins at a guard page (in `npm test` it ends at one),
# under AddressSanitizer, and under valgrind, which has AVX2 but no AVX-512.
#
#   tests/kernels/sanitize.sh [guards] [address] [valgrind]      default: all that this machine has
#
# AddressSanitizer comes with the compiler and is switched on as the compiler's own tests do it (RUSTC_BOOTSTRAP); valgrind is
# the program of this name. Minutes each. Exit code: the number of parts that failed.
set -u
cd "$(dirname "$0")/../../kernels"
# Everything that computes over memory of a backend.
filters=(ops:: simd:: limits:: backend::cpu mapping:: pages::)
host=$(rustc -vV | sed -n 's/^host: //p')
failures=0
# What is tested is not what ships: no time for optimising across crates.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

part() { # NAME COMMAND...
  local name=$1; shift
  echo "── $name"
  if "$@"; then echo "$name: passed"; else echo "$name: FAILED"; failures=$((failures + 1)); fi
}

program() { # builds the core's test program with the given cargo flags and says its path
  cargo test -p kvengine_core --lib --no-run --message-format=json "$@" |
    sed -n 's/.*"executable":"\([^"]*kvengine_core-[^"]*\)".*/\1/p' | tail -1
}

guards() {
  local tests; tests=$(program --release) && KVENGINE_TEST_GUARD=start "$tests" -q "${filters[@]}"
}

address() {
  # Tests keep tensors to their end, and one has children that touch guards; a separate folder, since the flag changes every crate.
  local tests
  tests=$(RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" program --release --target "$host" --target-dir target/address) &&
    ASAN_OPTIONS=detect_leaks=0:handle_segv=0:detect_stack_use_after_return=1 "$tests" -q "${filters[@]}"
}

under_valgrind() {
  local tests
  tests=$(program --release) &&
    valgrind --quiet --error-exitcode=1 --leak-check=no "$tests" -q --test-threads=1 "${filters[@]}"
}

wanted=("$@")
if [ ${#wanted[@]} -eq 0 ]; then
  wanted=(guards address)
  if command -v valgrind >/dev/null; then wanted+=(valgrind); else echo "skipped valgrind: it is not installed"; fi
fi
for one in "${wanted[@]}"; do
  case $one in
    guards) part "guards at the start" guards ;;
    address) part "AddressSanitizer" address ;;
    valgrind) part "valgrind" under_valgrind ;;
    *) echo "unknown part $one; allowed: guards, address, valgrind" >&2; exit 2 ;;
  esac
done
exit "$failures"
