// Attention over paged KV, and the writing of it.
#pragma once
#include <algorithm>

#include "driver.h"
#include "reference.h"

/// Sequences of these lengths in shuffled pages; queries for their last tokens.
struct Paged {
  static constexpr int LAYERS = 2, LAYER = 1, BLOCK = 16;

  Paged(Random& random, int head, int heads, int kv_heads, std::vector<std::pair<int, int>> sequences, int tile_rows)
      : head(head), heads(heads), kv_heads(kv_heads), width((heads + 2 * kv_heads) * head), group(heads / kv_heads),
        layer_bytes(2 * kv_heads * BLOCK * head * 2), page_bytes((LAYERS * layer_bytes + 63) / 64 * 64) {
    int pages = 1;
    for (auto [length, queries] : sequences) pages += (length + BLOCK - 1) / BLOCK;
    std::vector<int> free;
    for (int i = 1; i < pages; i++) free.push_back(i);
    for (int i = int(free.size()); i > 1; i--) std::swap(free[i - 1], free[random.below(i)]);
    // What no token has written is NaN: it must not be used.
    memory.assign(size_t(pages) * page_bytes, 0xFF);
    for (auto [length, queries] : sequences) {
      const int table = int(blocks.size());
      for (int i = 0; i < (length + BLOCK - 1) / BLOCK; i++) {
        blocks.push_back(free.back());
        free.pop_back();
      }
      std::vector<float> kv = random.normals(size_t(length) * 2 * kv_heads * head);
      for (int p = 0; p < length; p++)
        for (int h = 0; h < 2 * kv_heads; h++)
          for (int d = 0; d < head; d++) {
            float& x = kv[(size_t(p) * 2 * kv_heads + h) * head + d];
            const uint16_t half = float_to_half(x);
            x = half_to_float(half);
            memcpy(&memory[place(blocks[table + p / BLOCK], h, p % BLOCK, d)], &half, 2);
          }
      const int each = std::max(1, tile_rows / group);
      for (int first = 0; first < queries; first += each) {
        const int count = std::min(each, queries - first);
        const int token = int(positions.size());
        tiles.insert(tiles.end(), {token, count, length - queries + first, table});
        for (int i = 0; i < count; i++) {
          positions.push_back(length - queries + first + i);
          sequence.push_back(int(stored.size()));
        }
      }
      stored.push_back(std::move(kv));
    }
    qkv = random.normals(positions.size() * width);
  }

  size_t place(int block, int kv_head, int slot, int d) const {
    return size_t(block) * page_bytes + LAYER * layer_bytes + ((size_t(kv_head) * BLOCK + slot) * head + d) * 2;
  }

  std::vector<float> expected(int window, float scale, float soft_cap) const {
    std::vector<float> out;
    for (size_t t = 0; t < positions.size(); t++) {
      const auto& kv = stored[sequence[t]];
      const int to = positions[t] + 1, from = window > 0 ? std::max(0, to - window) : 0;
      for (int h = 0; h < heads; h++) {
        std::vector<double> scores(to, 0.0), sums(head, 0.0);
        double most = -INFINITY, total = 0.0;
        for (int p = from; p < to; p++) {
          const float* key = &kv[(size_t(p) * 2 * kv_heads + h / group) * head];
          for (int d = 0; d < head; d++) scores[p] += double(qkv[t * width + h * head + d]) * key[d];
          scores[p] *= scale;
          if (soft_cap > 0) scores[p] = soft_cap * tanh(scores[p] / soft_cap);
          most = std::max(most, scores[p]);
        }
        for (int p = from; p < to; p++) {
          const double weight = exp(scores[p] - most);
          const float* value = &kv[(size_t(p) * 2 * kv_heads + kv_heads + h / group) * head];
          total += weight;
          for (int d = 0; d < head; d++) sums[d] += weight * value[d];
        }
        for (int d = 0; d < head; d++) out.push_back(float(sums[d] / total));
      }
    }
    return out;
  }

  int splits() const { return (*std::max_element(positions.begin(), positions.end())) / 256 + 1; }

  int head, heads, kv_heads, width, group, layer_bytes, page_bytes;
  std::vector<uint8_t> memory;
  std::vector<int> blocks, tiles, positions, sequence;
  std::vector<std::vector<float>> stored;
  std::vector<float> qkv;
};

/// A `Paged` on the device.
struct Attention {
  explicit Attention(const Paged& p)
      : paged(p), kv(p.memory), qkv(p.qkv), tiles(p.tiles), blocks(p.blocks), positions(p.positions),
        out(p.positions.size() * p.heads * p.head), partials(out.count * p.splits()),
        statistics(p.positions.size() * p.heads * p.splits() * 2) {}

  void whole(int window, float scale, float soft_cap) {
    driver->launch("attention_hs" + std::to_string(paged.head),
                   {unsigned(paged.tiles.size() / 4), unsigned(paged.kv_heads)}, 128, out.address, qkv.address, kv.address,
                   tiles.address, blocks.address, paged.page_bytes, Paged::LAYER * paged.layer_bytes, Paged::BLOCK,
                   paged.heads, paged.kv_heads, window, scale, soft_cap);
  }
  void split(int window, float scale, float soft_cap) {
    const unsigned splits = paged.splits();
    driver->launch("attention_split_hs" + std::to_string(paged.head),
                   {unsigned(paged.tiles.size() / 4), unsigned(paged.kv_heads), splits}, 128, partials.address,
                   statistics.address, qkv.address, kv.address, tiles.address, blocks.address, paged.page_bytes,
                   Paged::LAYER * paged.layer_bytes, Paged::BLOCK, paged.heads, paged.kv_heads, window, scale,
                   soft_cap);
    driver->launch("attention_merge_hs" + std::to_string(paged.head),
                   {unsigned(paged.positions.size()), unsigned(paged.heads)}, unsigned(paged.head + 31) / 32 * 32,
                   out.address, partials.address, statistics.address, positions.address, paged.heads, window, int(splits));
  }

  const Paged& paged;
  Array<uint8_t> kv;
  Array<float> qkv;
  Array<int> tiles, blocks, positions;
  Array<float> out, partials, statistics;
};

inline void check_head(Random& random, int head, int heads, int kv_heads, int tile_rows) {
  for (auto [window, soft_cap] : {std::pair{0, 0.0f}, std::pair{20, 0.0f}, std::pair{300, 2.0f}}) {
    const float scale = 1.5f / sqrtf(float(head));
    // Prompts, parts of prompts and single tokens in one step.
    const std::vector<std::pair<int, int>> mixed{{1, 1}, {300, 300}, {15, 15}, {600, 40}, {17, 1}, {257, 1}, {512, 1}, {700, 1}};
    Paged paged(random, head, heads, kv_heads, mixed, tile_rows);
    Attention attention(paged);
    const std::string what = "attention_hs" + std::to_string(head) + " " + std::to_string(heads) + "/" +
                             std::to_string(kv_heads) + " window " + std::to_string(window) + (soft_cap > 0 ? " soft-cap" : "");
    attention.whole(window, scale, soft_cap);
    const auto whole = attention.out.read();
    compare(what, whole, paged.expected(window, scale, soft_cap), 4e-3);
    attention.split(window, scale, soft_cap);
    compare(what + ": splits merged elsewhere", attention.out.read(), whole, 0.0);
    // Each token alone in a tile.
    std::vector<int> alone;
    for (size_t tile = 0; tile < paged.tiles.size(); tile += 4)
      for (int i = 0; i < paged.tiles[tile + 1]; i++)
        alone.insert(alone.end(), {paged.tiles[tile] + i, 1, paged.tiles[tile + 2] + i, paged.tiles[tile + 3]});
    Paged single = paged;
    single.tiles = alone;
    Attention one(single);
    one.whole(window, scale, soft_cap);
    compare(what + ": each token alone", one.out.read(), whole, 0.0);
  }
}

inline void check_store(Random& random) {
  const int head = 40, heads = 3, kv_heads = 2, width = (heads + 2 * kv_heads) * head, block = 16;
  const int layer_bytes = 2 * kv_heads * block * head * 2, page_bytes = 2 * layer_bytes;
  const std::vector<int> slots{16 * 2 + 15, -1, 16 * 1 + 0};
  const auto qkv = random.normals(slots.size() * width);
  std::vector<uint8_t> expected(3 * page_bytes, 0xFF);
  for (size_t t = 0; t < slots.size(); t++)
    for (int i = 0; slots[t] >= 0 && i < 2 * kv_heads * head; i++) {
      const uint16_t half = float_to_half(qkv[t * width + heads * head + i]);
      const size_t tile = size_t(slots[t] / block) * page_bytes + layer_bytes + size_t(i / head) * block * head * 2;
      memcpy(&expected[tile + (slots[t] % block * head + i % head) * 2], &half, 2);
    }
  Array<uint8_t> kv(std::vector<uint8_t>(expected.size(), 0xFF));
  Array<float> dqkv(qkv);
  Array<int> dslots(slots);
  driver->launch("store_kv_f16", {3}, 256, kv.address, dqkv.address, dslots.address, page_bytes, layer_bytes, block, heads,
                 kv_heads, head);
  verdict(kv.read() == expected, "store_kv_f16", "other bytes");
}

/// Rotation and storing at once are the two one after the other.
inline void check_rope_store(Random& random, const std::string& style, int dims) {
  const int head = 40, heads = 3, kv_heads = 2, width = (heads + 2 * kv_heads) * head, block = 16;
  const int layer_bytes = 2 * kv_heads * block * head * 2, page_bytes = 2 * layer_bytes;
  const std::vector<int> slots{16 * 2 + 15, -1, 16 * 1 + 0}, positions{7, 0, 30};
  const auto x = random.normals(slots.size() * width), angles = random.normals(size_t(31) * dims);
  Array<uint8_t> one(std::vector<uint8_t>(3 * page_bytes, 0xFF)), two(std::vector<uint8_t>(3 * page_bytes, 0xFF));
  Array<float> dx(x), both(x.size()), rotated(x.size()), dangles(angles);
  Array<int> dslots(slots), dpositions(positions);
  driver->launch("rope_" + style + "_f32", {3}, 256, rotated.address, dx.address, dangles.address, dpositions.address,
                 heads + kv_heads, head, dims, width);
  driver->launch("store_kv_f16", {3}, 256, two.address, rotated.address, dslots.address, page_bytes, layer_bytes, block,
                 heads, kv_heads, head);
  driver->launch("rope_" + style + "_store_f16", {3}, 256, both.address, one.address, dx.address, dangles.address,
                 dpositions.address, dslots.address, page_bytes, layer_bytes, block, heads, kv_heads, head, dims);
  const std::string what = "rope_" + style + "_store_f16 of " + std::to_string(dims);
  verdict(one.read() == two.read(), what, "other KV");
  const auto found = both.read(), expected = rotated.read();
  bool same = true;
  for (size_t t = 0; t < slots.size(); t++)
    for (int i = 0; i < heads * head; i++) same = same && bits(found[t * width + i]) == bits(expected[t * width + i]);
  verdict(same, what, "other queries");
}

inline void check_attention() {
  Random random(4);
  check_store(random);
  for (const char* style : {"interleaved", "halves"})
    for (int dims : {24, 40}) check_rope_store(random, style, dims);
  for (int head : {16, 32, 40, 64, 80, 96, 128, 256}) check_head(random, head, 6, 2, 16);
  check_head(random, 64, 9, 3, 64);
  check_head(random, 128, 8, 1, 64);
  check_head(random, 64, 20, 1, 16);
}

inline void time_attention() {
  printf("%-14s %8s %8s %8s %10s %10s %10s\n", "attention", "rows", "tokens", "context", "us", "GB/s", "TFLOP/s");
  Random random(5);
  struct Case {
    int head, heads, kv_heads, rows, tokens, context;
  };
  for (Case c : {Case{64, 9, 3, 1, 1, 512}, {64, 9, 3, 64, 1, 512}, {64, 9, 3, 64, 1, 4096}, {128, 32, 8, 16, 1, 4096},
                 {64, 9, 3, 1, 512, 512}, {64, 9, 3, 1, 2048, 2048}, {128, 32, 8, 1, 2048, 2048}}) {
    Paged paged(random, c.head, c.heads, c.kv_heads,
                std::vector<std::pair<int, int>>(c.rows, {c.context, c.tokens}), 64);
    Attention attention(paged);
    const float scale = 1.0f / sqrtf(float(c.head));
    for (bool split : {false, true}) {
      if (split && c.tokens > 1) continue;
      const double us = driver->time(10, [&] { split ? attention.split(0, scale, 0.0f) : attention.whole(0, scale, 0.0f); });
      const double bytes = 4.0 * c.rows * c.context * c.kv_heads * c.head;
      const double operations = 4.0 * c.rows * c.heads * c.head * c.tokens * (c.context - c.tokens / 2.0);
      printf("%-14s %8d %8d %8d %10.1f %10.0f %10.1f\n", ((split ? "split hs" : "whole hs") + std::to_string(c.head)).c_str(),
             c.rows, c.tokens, c.context, us, bytes / us / 1e3, operations / us / 1e6);
    }
  }
}
