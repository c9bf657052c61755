// The sampler: `ops/sample` in plain loops, whose tokens the kernel has to pick to the bit.
#pragma once
#include <algorithm>
#include <numeric>
#include <tuple>

#include "driver.h"
#include "reference.h"

struct Wish {
  double uniform = 0.0, top_p = 1.0;
  float scale = 0.0f, min_p = 0.0f;
  int top_k = 0, target = -1, fallback = 0, top = -1, adjusted = 0, unused = 0;
};
struct Answer {
  double total;
  float max, logit;
  int token, rank;
  double unused;
};
struct Edit {
  int id;
  float x, y, z;
};
/// Edits of one sample: allowed, forbidden, biases, penalties.
using Edits = std::array<std::vector<Edit>, 4>;

namespace sampler {

inline float exponential(float x) {
  volatile float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = x - n * 0.6933594f - n * -2.1219444e-4f;
  float p = 1.9875691e-4f;
  for (float c : {1.3981999e-3f, 8.333452e-3f, 4.1665796e-2f, 1.6666665e-1f, 0.5f}) p = p * r + c;
  const uint32_t power_bits = (bits(shifted) + 127u) << 23;
  float power;
  memcpy(&power, &power_bits, 4);
  return x >= -87.0f ? (p * r * r + r + 1.0f) * power : 0.0f;
}

inline double chunk_sum(const std::vector<float>& weights, size_t from) {
  float lanes[16] = {};
  for (size_t i = from; i < std::min(weights.size(), from + 256); i++) lanes[(i - from) % 16] += weights[i];
  double sum = 0.0;
  for (float lane : lanes) sum += double(lane);
  return sum;
}

inline double total(const std::vector<float>& weights) {
  double sum = 0.0;
  for (size_t i = 0; i < weights.size(); i += 256) sum += chunk_sum(weights, i);
  return sum;
}

inline size_t draw(const std::vector<float>& weights, double uniform) {
  const double target = uniform * total(weights);
  double before = 0.0;
  size_t last = 0;
  for (size_t from = 0; from < weights.size(); from += 256) {
    const double sum = chunk_sum(weights, from);
    if (sum > 0.0) {
      double left = target - before;
      for (size_t i = from; i < std::min(weights.size(), from + 256); i++) {
        if (weights[i] > 0.0f) {
          last = i;
          if (target < before + sum && left < double(weights[i])) return last;
        }
        left -= double(weights[i]);
      }
      if (target < before + sum) return last;
    }
    before += sum;
  }
  return last;
}

inline float value(float x) { return std::isnan(x) ? -INFINITY : x + 0.0f; }

inline int pick(const std::vector<float>& row, const Wish& wish) {
  float max = -INFINITY;
  for (float x : row) max = x > max ? x : max;
  if (max == -INFINITY) return wish.fallback;
  if (wish.scale == 0.0f || max == INFINITY) return int(std::find(row.begin(), row.end(), max) - row.begin());
  std::vector<int> ids;
  for (int i = 0; i < int(row.size()); i++)
    if (!std::isnan(row[i])) ids.push_back(i);
  const auto weight = [&](int id) { return exponential((row[id] - max) * wish.scale); };
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) {
    return row[a] != row[b] ? row[a] > row[b] : std::signbit(row[b]) && !std::signbit(row[a]);
  });
  const bool some = wish.top_k > 0 && wish.top_k < int(row.size());
  if (some && int(ids.size()) > wish.top_k) ids.resize(wish.top_k);
  if (wish.min_p > 0.0f) ids.erase(std::remove_if(ids.begin(), ids.end(), [&](int id) { return weight(id) < wish.min_p; }), ids.end());
  if (!some && wish.min_p == 0.0f && wish.top_p >= 1.0) {
    ids.resize(row.size());
    std::iota(ids.begin(), ids.end(), 0);
  }
  if (wish.top_p < 1.0) {
    double wanted = 0.0;
    if (some || wish.min_p > 0.0f) {
      for (int id : ids) wanted += weight(id);
    } else {
      std::vector<float> weights;
      for (int i = 0; i < int(row.size()); i++) weights.push_back(weight(i));
      wanted = total(weights);
    }
    wanted *= wish.top_p;
    double sum = 0.0;
    for (size_t i = 0; i < ids.size(); i++)
      if ((sum += weight(ids[i])) >= wanted) {
        ids.resize(i + 1);
        break;
      }
  }
  std::sort(ids.begin(), ids.end());
  std::vector<float> weights;
  for (int id : ids) weights.push_back(weight(id));
  return ids[draw(weights, wish.uniform)];
}

inline std::vector<float> adjust(std::vector<float> row, const Edits& edits) {
  const std::vector<float> raw = row;
  if (!edits[0].empty()) {
    std::fill(row.begin(), row.end(), -INFINITY);
    for (const Edit& edit : edits[0]) row[edit.id] = raw[edit.id];
  }
  for (const Edit& edit : edits[1]) row[edit.id] = -INFINITY;
  for (const Edit& edit : edits[2]) row[edit.id] += edit.x;
  for (const Edit& edit : edits[3]) {
    float& logit = row[edit.id];
    logit = logit > 0.0f ? logit / edit.x : logit * edit.x;
    logit = logit - edit.y - edit.z;
  }
  return row;
}

}  // namespace sampler

/// Samples on the device.
struct Sampling {
  Sampling(const std::vector<float>& logits, const std::vector<Wish>& wishes, const std::vector<Edits>& edits, int width,
           int most_top, int blocks)
      : width(width), most_top(most_top), blocks(blocks), count(int(wishes.size())), logits(logits), adjusted(logits.size()),
        wishes(wishes), answers(wishes.size()), tops(wishes.size() * std::max(1, most_top) * 2), keys(size_t(blocks) * power(width)),
        ids(size_t(blocks) * width), sums(size_t(blocks) * ((width + 255) / 256)), flat(flatten(edits)), edits(flat.first),
        starts(flat.second) {}
  static size_t power(int width) {
    size_t size = 1;
    while (size < size_t(width)) size *= 2;
    return size;
  }
  static std::pair<std::vector<Edit>, std::vector<int>> flatten(const std::vector<Edits>& edits) {
    std::pair<std::vector<Edit>, std::vector<int>> flat;
    for (const Edits& one : edits) {
      flat.second.push_back(int(flat.first.size()));
      for (const auto& part : one) {
        flat.first.insert(flat.first.end(), part.begin(), part.end());
        flat.second.push_back(int(flat.first.size()));
      }
    }
    if (flat.first.empty()) flat.first.push_back({});
    return flat;
  }
  void run() {
    driver->launch("sample_adjust_f32", {unsigned(count)}, 512, adjusted.address, logits.address, edits.address, starts.address,
                   width);
    driver->launch("sample_f32", {unsigned(blocks)}, 512, answers.address, tops.address, keys.address, ids.address, sums.address,
                   logits.address, adjusted.address, wishes.address, count, width, most_top);
  }
  int width, most_top, blocks, count;
  Array<float> logits, adjusted;
  Array<Wish> wishes;
  Array<Answer> answers;
  Array<uint32_t> tops;
  Array<uint64_t> keys;
  Array<uint32_t> ids;
  Array<double> sums;
  std::pair<std::vector<Edit>, std::vector<int>> flat;
  Array<Edit> edits;
  Array<int> starts;
};

inline void check_samples(Random& random, int width, int samples, bool coarse, int blocks) {
  std::vector<float> logits = random.normals(size_t(samples) * width, 3.0f);
  // Coarse logits: many are equal.
  if (coarse)
    for (float& x : logits) x = nearbyintf(x * 2.0f) / 2.0f;
  std::vector<Wish> wishes;
  std::vector<Edits> edits(samples);
  const int most_top = 7;
  for (int i = 0; i < samples; i++) {
    float* row = &logits[size_t(i) * width];
    if (i % 7 == 3) row[random.below(width)] = NAN;
    if (i % 11 == 5) row[random.below(width)] = -INFINITY;
    if (i % 13 == 6) row[random.below(width)] = INFINITY;
    if (i % 29 == 17) std::fill(row, row + width, -INFINITY);
    Wish wish;
    wish.uniform = double(random.below(1 << 30)) / double(1 << 30);
    wish.scale = i % 5 == 0 ? 0.0f : 1.0f / (0.3f + float(random.below(20)) / 10.0f);
    if (i % 3 == 1) wish.top_k = 1 + random.below(std::min(width + 5, 100));
    if (i % 4 == 2) wish.top_p = 0.05 + 0.9 * random.below(100) / 100.0;
    if (i % 6 == 4) wish.min_p = 0.02f + 0.2f * float(random.below(5));
    if (i % 10 == 9) wish.target = random.below(width);
    wish.top = i % 3 == 0 ? random.below(most_top + 1) : -1;
    if (i % 4 == 1 && wish.target < 0) {
      wish.adjusted = 1;
      if (i % 8 == 5)
        for (int k = 0; k < 9; k++) edits[i][0].push_back({random.below(width), 0, 0, 0});
      for (int k = 0; k < 5; k++) edits[i][1].push_back({random.below(width), 0, 0, 0});
      for (int k = 0; k < 5; k++) edits[i][2].push_back({random.below(width), random.normal(), 0, 0});
      for (int id = 0; id < width; id += 3) edits[i][3].push_back({id, 1.3f, 0.2f * float(random.below(3)), 0.5f});
      if (!edits[i][0].empty()) wish.fallback = edits[i][0][0].id;
    }
    wishes.push_back(wish);
  }
  Sampling sampling(logits, wishes, edits, width, most_top, blocks);
  sampling.run();
  const auto answers = sampling.answers.read();
  const auto tops = sampling.tops.read();
  const std::string what = "sample_f32 of " + std::to_string(width) + (coarse ? " coarse" : "");
  for (int i = 0; i < samples; i++) {
    const std::vector<float> raw(logits.begin() + size_t(i) * width, logits.begin() + size_t(i + 1) * width);
    const Wish& wish = wishes[i];
    const int token = wish.target >= 0 ? wish.target : sampler::pick(wish.adjusted ? sampler::adjust(raw, edits[i]) : raw, wish);
    const std::string one = what + " sample " + std::to_string(i);
    verdict(answers[i].token == token, one, "token " + std::to_string(answers[i].token) + ", expected " + std::to_string(token));
    float max = -INFINITY;
    for (float x : raw) max = x > max ? x : max;
    std::vector<float> weights;
    for (float x : raw) weights.push_back(sampler::exponential(x - max));
    const double total = max == INFINITY    ? double(std::count(raw.begin(), raw.end(), max))
                         : max == -INFINITY ? 0.0
                                            : sampler::total(weights);
    verdict(answers[i].max == max && answers[i].total == total, one, "another maximum or total");
    std::vector<int> order(width);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return sampler::value(raw[a]) > sampler::value(raw[b]); });
    if (wish.top < 0) continue;
    const int place = int(std::find(order.begin(), order.end(), answers[i].token) - order.begin()) + 1;
    verdict(answers[i].rank == place, one, "rank " + std::to_string(answers[i].rank) + ", expected " + std::to_string(place));
    bool same = true;
    for (int k = 0; k < std::min(wish.top, width); k++) same = same && int(tops[(size_t(i) * most_top + k) * 2]) == order[k];
    verdict(same, one, "another list of the most probable");
  }
}

inline void check_sample() {
  Random random(6);
  check_samples(random, 50, 60, true, 3);
  check_samples(random, 50, 60, false, 60);
  check_samples(random, 3000, 60, true, 7);
  check_samples(random, 3001, 60, false, 60);
  check_samples(random, 49152, 12, false, 12);
}

inline void time_sample() {
  printf("%-14s %8s %8s %10s\n", "sample", "rows", "width", "us");
  Random random(7);
  for (int width : {49152, 128256})
    for (int samples : {1, 64})
      for (auto [name, scale, top_k, top_p] : {std::tuple{"greedy", 0.0f, 0, 1.0},
                                              {"draw", 1.0f, 0, 1.0},
                                              {"top-k 40", 1.0f, 40, 1.0},
                                              {"top-p 0.9", 1.0f, 0, 0.9},
                                              {"both", 1.0f, 40, 0.9}}) {
        Wish wish;
        wish.uniform = 0.5;
        wish.scale = scale;
        wish.top_k = top_k;
        wish.top_p = top_p;
        Sampling sampling(random.normals(size_t(samples) * width, 3.0f), std::vector<Wish>(samples, wish),
                          std::vector<Edits>(samples), width, 0, std::min(samples, 64));
        printf("%-14s %8d %8d %10.1f\n", name, samples, width, driver->time(10, [&] { sampling.run(); }));
      }
}
