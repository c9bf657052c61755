// Launch constants; `backend/cuda/kernels.rs` has the same numbers, and a test compares the two.
#pragma once

namespace kv {

constexpr int ROW_THREADS = 256;
constexpr int ELEMENT_THREADS = 256;
constexpr int LINEAR_THREADS = 128;
constexpr int LINEAR_COLUMNS = 32;
constexpr int LINEAR_ROWS = 8;
constexpr int LINEAR_MANY_COLUMNS = 64;
constexpr int LINEAR_MANY_ROWS = 64;
constexpr int ATTENTION_THREADS = 128;
constexpr int SAMPLE_THREADS = 512;
constexpr int TILE_ROWS = 64;
constexpr int SPLIT = 256;

}  // namespace kv
