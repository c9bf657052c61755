// Kernels that work row by row: norms, sums, gates, embedding, rope, gathers, pages.
#pragma once
#include "driver.h"
#include "reference.h"

inline void check_norms(Random& random, int rows, int width) {
  const auto x = random.normals(size_t(rows) * width), residual = random.normals(x.size()), weight = random.normals(width);
  const float eps = 1e-5f;
  std::vector<float> sum(x.size()), plain(x.size()), added(x.size());
  const auto norm = [&](const std::vector<float>& from, std::vector<float>& to) {
    for (int t = 0; t < rows; t++) {
      double squares = 0.0;
      for (int i = 0; i < width; i++) squares += double(from[t * width + i]) * from[t * width + i];
      const double by = 1.0 / sqrt(squares / width + eps);
      for (int i = 0; i < width; i++) to[t * width + i] = float(from[t * width + i] * by * weight[i]);
    }
  };
  for (size_t i = 0; i < x.size(); i++) sum[i] = x[i] + residual[i];
  norm(x, plain);
  norm(sum, added);
  Array<float> dx(x), dr(residual), dw(weight), out(x.size()), dsum(x.size());
  const std::string size = " " + std::to_string(rows) + " x " + std::to_string(width);
  driver->launch("rms_norm_f32", {unsigned(rows)}, 256, out.address, dx.address, dw.address, width, eps);
  compare("rms_norm_f32" + size, out.read(), plain, 1e-5);
  driver->launch("add_rms_norm_f32", {unsigned(rows)}, 256, dsum.address, out.address, dx.address, dr.address,
                 dw.address, width, eps);
  compare("add_rms_norm_f32 out" + size, out.read(), added, 1e-5);
  compare("add_rms_norm_f32 sum" + size, dsum.read(), sum, 0.0);
  const int elements = rows * width;
  driver->launch("add_f32", {unsigned(elements + 255) / 256}, 256, out.address, dx.address, dr.address, elements);
  compare("add_f32" + size, out.read(), sum, 0.0);
}

inline void check_gate(Random& random, int rows, int width) {
  const auto x = random.normals(size_t(rows) * 2 * width, 3.0f);
  std::vector<float> expected(size_t(rows) * width);
  for (int t = 0; t < rows; t++)
    for (int i = 0; i < width; i++) {
      const double gate = x[t * 2 * width + i];
      expected[t * width + i] = float(gate / (1.0 + exp(-gate)) * x[t * 2 * width + width + i]);
    }
  Array<float> dx(x), out(expected.size());
  const int elements = rows * width;
  driver->launch("silu_mul_f32", {unsigned(elements + 255) / 256}, 256, out.address, dx.address, width, elements);
  compare("silu_mul_f32 " + std::to_string(rows) + " x " + std::to_string(width), out.read(), expected, 1e-5);
}

/// A kernel that quantises as well gives what it and `quantize_f32` give one after the other.
inline void check_fused(Random& random, int rows, int width) {
  const int elements = rows * width, blocks = elements / 32;
  const float eps = 1e-5f;
  const auto x = random.normals(size_t(rows) * 2 * width, 3.0f), residual = random.normals(elements), weight = random.normals(width);
  Array<float> dx(x), dr(residual), dw(weight), sum(elements), out(elements), fused(elements), fused_sum(elements);
  Array<float> scales(blocks), sums(blocks), fused_scales(blocks), fused_sums(blocks);
  Array<int8_t> numbers(elements), fused_numbers(elements);
  const auto check = [&](const std::string& name) {
    driver->launch("quantize_f32", {unsigned(blocks * 8 + 255) / 256}, 256, numbers.address, scales.address, sums.address,
                   out.address, blocks);
    const std::string what = name + " " + std::to_string(rows) + " x " + std::to_string(width);
    compare(what, fused.read(), out.read(), 0.0);
    compare(what + " scales", fused_scales.read(), scales.read(), 0.0);
    compare(what + " sums", fused_sums.read(), sums.read(), 0.0);
    verdict(fused_numbers.read() == numbers.read(), what, "other numbers");
  };
  const unsigned grid = unsigned(rows), by_elements = unsigned(elements + 255) / 256;
  driver->launch("rms_norm_f32", {grid}, 256, out.address, dx.address, dw.address, width, eps);
  driver->launch("rms_norm_quantize_f32", {grid}, 256, fused.address, fused_numbers.address, fused_scales.address,
                 fused_sums.address, dx.address, dw.address, width, eps);
  check("rms_norm_quantize_f32");
  driver->launch("add_rms_norm_f32", {grid}, 256, sum.address, out.address, dx.address, dr.address, dw.address, width, eps);
  driver->launch("add_rms_norm_quantize_f32", {grid}, 256, fused_sum.address, fused.address, fused_numbers.address,
                 fused_scales.address, fused_sums.address, dx.address, dr.address, dw.address, width, eps);
  check("add_rms_norm_quantize_f32");
  compare("add_rms_norm_quantize_f32 sum", fused_sum.read(), sum.read(), 0.0);
  driver->launch("silu_mul_f32", {by_elements}, 256, out.address, dx.address, width, elements);
  driver->launch("silu_mul_quantize_f32", {by_elements}, 256, fused.address, fused_numbers.address, fused_scales.address,
                 fused_sums.address, dx.address, width, elements);
  check("silu_mul_quantize_f32");
}

inline void check_rope(Random& random, bool interleaved, int dims) {
  const int rows = 5, heads = 3, head = 64, width = 5 * head, pairs = dims / 2;
  const std::vector<int> positions{0, 1, 7, 499, 500};
  std::vector<float> angles(size_t(501) * dims);
  for (int p = 0; p <= 500; p++)
    for (int i = 0; i < pairs; i++) {
      const double angle = p * pow(10000.0, -2.0 * i / dims);
      angles[p * dims + i] = float(sin(angle));
      angles[p * dims + pairs + i] = float(cos(angle));
    }
  const auto x = random.normals(size_t(rows) * width);
  std::vector<float> expected = x;
  for (int t = 0; t < rows; t++)
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < pairs; i++) {
        float* at = &expected[t * width + h * head];
        float &low = at[interleaved ? 2 * i : i], &high = at[interleaved ? 2 * i + 1 : i + pairs];
        const float sine = angles[positions[t] * dims + i], cosine = angles[positions[t] * dims + pairs + i];
        const float a = low, b = high;
        low = a * cosine - b * sine;
        high = a * sine + b * cosine;
      }
  const std::string name = interleaved ? "rope_interleaved_f32" : "rope_halves_f32";
  Array<float> dx(x), out(x.size()), dangles(angles);
  Array<int> dpositions(positions);
  driver->launch(name, {unsigned(rows)}, 256, out.address, dx.address, dangles.address, dpositions.address, heads, head,
                 dims, width);
  compare(name, out.read(), expected, 1e-6);
  driver->launch(name, {unsigned(rows)}, 256, dx.address, dx.address, dangles.address, dpositions.address, heads, head,
                 dims, width);
  compare(name + " in place", dx.read(), expected, 1e-6);
}

inline void check_copies(Random& random) {
  const int width = 71;
  const auto x = random.normals(9 * width);
  const std::vector<int> samples{0, 3, 8};
  std::vector<float> expected;
  for (int s : samples) expected.insert(expected.end(), x.begin() + s * width, x.begin() + (s + 1) * width);
  Array<float> dx(x), out(expected.size());
  Array<int> dsamples(samples);
  driver->launch("gather_rows_f32", {3}, 256, out.address, dx.address, dsamples.address, width);
  compare("gather_rows_f32", out.read(), expected, 0.0);

  const int page = 64 * 75;
  const auto bytes = random.bytes(size_t(4) * page);
  const std::vector<int> pairs{2, 0, 3, 2};
  std::vector<uint8_t> copied(bytes.size(), 0);
  memcpy(&copied[0], &bytes[2 * page], page);
  memcpy(&copied[2 * page], &bytes[3 * page], page);
  Array<uint8_t> from(bytes), to(std::vector<uint8_t>(bytes.size(), 0));
  Array<int> dpairs(pairs);
  driver->launch("copy_pages", {2, 3}, 256, to.address, from.address, dpairs.address, page);
  verdict(to.read() == copied, "copy_pages", "other bytes");
}

inline void check_rows() {
  Random random(1);
  for (auto [rows, width] : {std::pair{1, 8}, {3, 576}, {40, 71}}) {
    check_norms(random, rows, width);
    check_gate(random, rows, width);
  }
  for (auto [rows, width] : {std::pair{1, 32}, {3, 576}, {9, 1568}}) check_fused(random, rows, width);
  for (bool interleaved : {false, true})
    for (int dims : {24, 64}) check_rope(random, interleaved, dims);
  check_copies(random);
}
