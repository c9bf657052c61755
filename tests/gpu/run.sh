#!/usr/bin/env bash
# Runs everything that needs a real GPU, and prints a table. Needs the NVIDIA driver, no network and no toolkit; what is there
# beside it (a C++ compiler, compute-sanitizer, a model file) is used.
#
#   tests/gpu/run.sh [--tests FILE] [--kvengine FILE] [--model FILE] [--device cuda:N] [--quick]
#
#   --tests     the core's test program; built by: cargo test --manifest-path kernels/Cargo.toml -p kvengine_core --release
#               --no-run (target/release/deps/kvengine_core-*). A file FILE.gz is unpacked.
#   --kvengine  the executable; `npm run build` writes dist/kvengine. A file FILE.gz is unpacked.
#   --model     a GGUF file to serve; without it nothing is served.
#   --quick     without compute-sanitizer.
#
# Logs go to $OUT, or to a new folder that is named at the end. Exit code: the number of parts that failed.
set -u
cd "$(dirname "$0")/../.."

tests="" kvengine="dist/kvengine" model="" device="cuda" quick=""
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) tests="$2"; shift 2 ;;
    --kvengine) kvengine="$2"; shift 2 ;;
    --model) model="$2"; shift 2 ;;
    --device) device="$2"; shift 2 ;;
    --quick) quick="yes"; shift ;;
    *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
  esac
done
logs="${OUT:-$(mktemp -d)}"
failures=0

# The newest test program, where none is named.
if [ -z "$tests" ]; then
  tests="$(find kernels/target/release/deps -maxdepth 1 -name 'kvengine_core-*' ! -name '*.*' -type f 2>/dev/null |
    xargs -r ls -t | head -1)"
fi

unpacked() { # FILE: the file, unpacked from FILE.gz if that is what there is
  if [ ! -e "$1" ] && [ -e "$1.gz" ]; then gunzip -k "$1.gz"; fi
  if [ -e "$1" ]; then chmod +x "$1" 2>/dev/null; readlink -f "$1"; fi
}

row() { printf '%-34s %-8s %8s  %s\n' "$1" "$2" "$3" "$4"; }

part() { # NAME COMMAND...: runs it, its output to a log, and prints a row
  local name="$1" log start end
  shift
  log="$logs/${name// /-}.log"
  start=$(date +%s.%N)
  "$@" >"$log" 2>&1
  local code=$?
  end=$(date +%s.%N)
  if [ $code -eq 0 ]; then
    row "$name" ok "$(awk "BEGIN { printf \"%.1f s\", $end - $start }")" "$(tail -1 "$log" | cut -c1-100)"
  else
    failures=$((failures + 1))
    row "$name" FAILED "code $code" "$log"
    tail -25 "$log" | sed 's/^/    /'
  fi
}

# The executable holds all of bun, for machines without it.
script() { if command -v bun >/dev/null; then bun "$@"; else BUN_BE_BUN=1 "$kvengine" "$@"; fi; }

skip() { row "$1" skipped "" "$2"; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "nvidia-smi: not found"
row part result time ""

tests="$(unpacked "$tests")"
if [ -n "$tests" ]; then
  export KVENGINE_TEST_CUDA=1 RUST_BACKTRACE=1
  part "ops" "$tests" --test-threads 1 suite::the_cuda
  part "programs" "$tests" --test-threads 1 program::
  part "transfers" "$tests" --test-threads 1 transfer::tests::sequences::pages_that_went
  part "cuda" "$tests" --test-threads 1 backend::cuda
  if [ -n "$quick" ]; then
    skip "sanitizer" "--quick"
  elif command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
      part "sanitizer $tool ops" compute-sanitizer --tool $tool --error-exitcode 9 "$tests" --test-threads 1 suite::the_cuda
    done
    part "sanitizer memcheck programs" compute-sanitizer --tool memcheck --error-exitcode 9 "$tests" --test-threads 1 \
      program::tests::right_drafts
  else
    skip "sanitizer" "compute-sanitizer is not there"
  fi
  # kvengine does not know it, and says so.
  unset KVENGINE_TEST_CUDA
else
  skip "core tests" "no test program: see --tests"
fi

if [ -x tests/gpu/kernels.sh ]; then
  if command -v "${CXX:-g++}" >/dev/null; then part "kernels" tests/gpu/kernels.sh; else skip "kernels" "no C++ compiler"; fi
fi

kvengine="$(unpacked "$kvengine")"
if [ -n "$kvengine" ]; then
  part "doctor" "$kvengine" doctor
  if [ -n "$model" ]; then
    tests/gpu/serve.sh "$kvengine" "$model" cpu "$logs/answers-cpu" >"$logs/serve-cpu.log" 2>&1
    part "serve" tests/gpu/serve.sh "$kvengine" "$model" "$device" "$logs/answers-gpu"
    part "same logits as the cpu" script tests/gpu/compare.ts "$logs/answers-cpu" "$logs/answers-gpu"
    part "serve with offload" tests/gpu/serve.sh "$kvengine" "$model" "$device" "$logs/answers-offload" \
      --kv-connector cpu-offload --kv-offload-size 1GiB --num-gpu-blocks-override 200
    part "same answers with offload" script tests/gpu/compare.ts "$logs/answers-gpu" "$logs/answers-offload" exact
    part "throughput" "$kvengine" bench throughput "$model" --device "$device" --num-prompts 64
    part "throughput of one" "$kvengine" bench throughput "$model" --device "$device" --num-prompts 4 --max-num-seqs 1
  else
    skip "serve" "no model: see --model"
  fi
else
  skip "kvengine" "no executable: see --kvengine"
fi

echo "logs: $logs"
exit $failures
