#!/usr/bin/env bash
# Builds llama.cpp's programs as the peer of measurements, from the source package of llama-cpp-python, and prints their folder.
#
#   tests/measure/build-llama-cpp.sh [native|avx2] [DIR]
#
# native (default): for this processor. avx2: AVX2, FMA and F16C and nothing wider, the peer of `--isa avx2`; only the benches.
# DIR (default ~/.cache/kvengine-peers/llama.cpp) holds the sources once and a build folder for each kind. Minutes on two cores, once;
# JOBS sets how many compilers run (default: all cores). Needs pip, cmake, make or ninja, and a C++ compiler.
set -euo pipefail
kind=${1:-native}
dir=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/kvengine-peers/llama.cpp}
version=0.3.36
targets=(llama-bench llama-batched-bench)
case $kind in
  native) build=$dir/build flags=(-DGGML_NATIVE=ON) targets+=(llama-server llama-quantize llama-perplexity) ;;
  avx2) build=$dir/build-avx2
    flags=(-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF) ;;
  *) echo "unknown kind $kind; allowed: native, avx2" >&2; exit 2 ;;
esac
if [ ! -d "$dir/src" ]; then
  mkdir -p "$dir/src"
  python3 -m pip download --quiet --no-deps -d "$dir" "llama-cpp-python==$version" >&2
  tar xzf "$dir"/llama_cpp_python-"$version".tar.gz -C "$dir/src" --strip-components=1
fi
generator=(); command -v ninja >/dev/null && generator=(-G Ninja)
cmake -S "$dir/src/vendor/llama.cpp" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "${flags[@]}" \
  -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF >&2
cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target "${targets[@]}" >&2
echo "$build/bin"
