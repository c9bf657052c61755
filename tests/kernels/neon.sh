#!/usr/bin/env bash
# The core's tests for aarch64 under an emulator, once on a processor with dot products of bytes (NEON kernels) and once on
# one without (portable kernels).
#
#   tests/kernels/neon.sh [FILTER...]      default: everything that computes
#
# Needs the target (rustup target add aarch64-unknown-linux-gnu), a linker with its C library, and the emulator (Debian:
# apt-get install gcc-aarch64-linux-gnu qemu-user). Minutes. Exit code 0 passed, 1 failed, 3 something is missing.
set -u
cd "$(dirname "$0")/../../kernels"
target=aarch64-unknown-linux-gnu
root=/usr/aarch64-linux-gnu
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
  command -v "$tool" >/dev/null || { echo "$tool is missing; see the head of $0" >&2; exit 3; }
done
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  echo "the Rust target $target is missing; see the head of $0" >&2
  exit 3
fi
filters=("$@")
if [ ${#filters[@]} -eq 0 ]; then
  filters=(ops:: simd:: limits:: backend::cpu mapping:: pages:: cpu_features:: dequant::)
fi
# What is tested is not what ships: no time for optimising across crates.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
tests=$(cargo test -p kvengine_core --lib --release --no-run --message-format=json --target "$target" |
  sed -n 's/.*"executable":"\([^"]*kvengine_core-[^"]*\)".*/\1/p' | tail -1)
[ -n "$tests" ] || exit 1
failed=0
# One test at a time: threads that wait for each other by spinning are slow to emulate.
for cpu in max cortex-a72; do
  echo "── $cpu"
  qemu-aarch64 -cpu "$cpu" -L "$root" "$tests" -q --test-threads=1 "${filters[@]}" || failed=1
done
exit "$failed"
