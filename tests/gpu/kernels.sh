#!/usr/bin/env bash
# Checks every CUDA kernel of the committed PTX on the driver of this machine, and times them: tests/gpu/kernels.sh [--check]
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
gunzip -c ../../kernels/cuda/kernels.ptx.gz > "$folder/kernels.ptx"
# No contraction: the loops in the references round as they are written.
"${CXX:-c++}" -std=c++17 -O2 -march=native -ffp-contract=off -Wall -Wextra kernels.cpp -o "$folder/kernels" -ldl
"$folder/kernels" "$folder/kernels.ptx" "$@"
