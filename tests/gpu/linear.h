// Matrices: the numeric definition of `ops/linear/cpu/mod.rs` as a loop, which the kernels have to meet to the bit.
#pragma once
#include "driver.h"
#include "reference.h"

struct Format {
  const char* name;
  int bits, zero;
  bool wide, minimum, halves;
};
inline const Format FORMATS[] = {
    {"q4_0", 4, 8, false, false, false}, {"q4_1", 4, 0, false, true, false}, {"q8_0", 8, 0, false, false, false},
    {"q5_1", 8, 0, false, true, false},  {"q4_k", 4, 0, true, true, false},  {"q5_k", 8, 0, true, true, false},
    {"q6_k", 8, 0, true, false, true}};

/// Random weights in the planes of `backend/cuda/kernels.rs`.
struct Planes {
  Planes(Random& random, const Format& f, int width, int cols) : format(f), blocks(cols / 32) {
    const size_t count = size_t(width + 31) / 32 * 32 * blocks;
    numbers = random.bytes(count * f.bits * 4);
    const auto floats = [&](size_t n, float by) {
      std::vector<uint8_t> plane;
      for (size_t i = 0; i < n; i++) {
        const float x = random.normal() * by;
        const uint16_t half = float_to_half(x);
        const auto* from = f.wide ? reinterpret_cast<const uint8_t*>(&x) : reinterpret_cast<const uint8_t*>(&half);
        plane.insert(plane.end(), from, from + (f.wide ? 4 : 2));
      }
      return plane;
    };
    scales = floats(count * (f.halves ? 2 : 1), 0.01f);
    if (f.minimum) minima = floats(count, 0.05f);
  }
  size_t place(int row, int block) const { return (size_t(row / 32) * blocks + block) * 32 + row % 32; }
  int number(int row, int column) const {
    const size_t at = place(row, column / 32);
    const int c = column % 32;
    if (format.bits == 8) return int8_t(numbers[at * 32 + c]);
    return numbers[at * 16 + c / 8 * 4 + c % 4] >> (c / 4 % 2 * 4) & 15;
  }
  float factor(const std::vector<uint8_t>& plane, size_t at) const {
    if (!format.wide) return half_to_float(uint16_t(plane[2 * at] | plane[2 * at + 1] << 8));
    float x;
    memcpy(&x, &plane[4 * at], 4);
    return x;
  }
  float scale(int row, int column) const {
    const size_t at = place(row, column / 32);
    return factor(scales, format.halves ? 2 * at + column % 32 / 16 : at);
  }
  float minimum(int row, int block) const { return format.minimum ? factor(minima, place(row, block)) : 0.0f; }

  Format format;
  int blocks;
  std::vector<uint8_t> numbers, scales, minima;
};

struct Activations {
  Activations(const std::vector<float>& x) : numbers(x.size()), scales(x.size() / 32), sums(x.size() / 32) {
    for (size_t b = 0; b < scales.size(); b++) {
      float most = 0.0f;
      for (int i = 0; i < 32; i++) most = std::isnan(x[b * 32 + i]) ? NAN : fmaxf(most, fabsf(x[b * 32 + i]));
      for (int i = 0; i < 32; i++)
        if (std::isnan(x[b * 32 + i])) most = NAN;
      const bool used = std::isfinite(most) && most >= 1e-30f;
      const float by = used ? 127.0f / most : 0.0f;
      scales[b] = used ? most / 127.0f : (std::isfinite(most) ? 0.0f : NAN);
      int sum = 0;
      for (int i = 0; i < 32; i++) {
        const int number = used ? int(nearbyintf(x[b * 32 + i] * by)) : 0;
        numbers[b * 32 + i] = int8_t(number);
        sum += number;
      }
      sums[b] = scales[b] * float(sum);
    }
  }
  std::vector<int8_t> numbers;
  std::vector<float> scales;
  std::vector<float> sums;
};

inline float product(const Planes& w, const Activations& x, int row, int column) {
  const int blocks = w.blocks;
  float sum = 0.0f;
  for (int b = 0; b < blocks; b++) {
    const float scale = x.scales[row * blocks + b];
    const int parts = w.format.halves ? 2 : 1;
    for (int part = 0; part < parts; part++) {
      int dot = 0;
      for (int i = part * 32 / parts; i < (part + 1) * 32 / parts; i++)
        dot += (w.number(column, b * 32 + i) - w.format.zero) * x.numbers[(row * blocks + b) * 32 + i];
      const volatile float term = float(dot) * w.scale(column, b * 32 + part * 16);
      sum = fmaf(term, scale, sum);
    }
    if (w.format.minimum) sum = fmaf(w.minimum(column, b), x.sums[row * blocks + b], sum);
  }
  return sum;
}

/// What a linear is launched with.
struct Linear {
  Linear(Random& random, const Format& format, int rows, int cols, int width)
      : planes(random, format, width, cols), x(random.normals(size_t(rows) * cols)), bias(random.normals(width)),
        numbers(planes.numbers), scales(planes.scales), minima(planes.minima), dx(x), dbias(bias), x_numbers(x.size()),
        x_scales(x.size() / 32), x_sums(x.size() / 32), out(size_t(rows) * (width + 3)), rows(rows), cols(cols), width(width) {}

  void quantize() {
    const int blocks = rows * cols / 32;
    driver->launch("quantize_f32", {unsigned(blocks * 8 + 255) / 256}, 256, x_numbers.address, x_scales.address,
                   x_sums.address, dx.address, blocks);
  }
  void run(bool many) {
    const Driver::Size grid = many ? Driver::Size{unsigned(width + 63) / 64, unsigned(rows + 63) / 64}
                                   : Driver::Size{unsigned(width + 31) / 32, unsigned(rows + 7) / 8};
    driver->launch(std::string(many ? "linear_many_" : "linear_") + planes.format.name, grid, 128, out.address,
                   x_numbers.address, x_scales.address, x_sums.address, numbers.address, scales.address,
                   planes.format.minimum ? minima.address : uint64_t(0), dbias.address, rows, cols, width, width + 3);
  }

  Planes planes;
  std::vector<float> x, bias;
  Array<uint8_t> numbers, scales, minima;
  Array<float> dx, dbias;
  Array<int8_t> x_numbers;
  Array<float> x_scales;
  Array<float> x_sums;
  Array<float> out;
  int rows, cols, width;
};

/// The same bits, but a NaN is a NaN.
inline void compare_scales(const std::string& what, std::vector<float> found, const std::vector<float>& expected) {
  for (size_t i = 0; i < found.size(); i++)
    if (std::isnan(found[i]) && std::isnan(expected[i])) found[i] = expected[i];
  compare(what, found, expected, 0.0);
}

inline void check_quantised(Random& random, const Format& format, int rows, int cols, int width) {
  Linear linear(random, format, rows, cols, width);
  const std::string what = std::string(format.name) + " " + std::to_string(rows) + " x " + std::to_string(cols) + " x " +
                           std::to_string(width);
  if (rows > 2) {
    linear.x[40] = INFINITY;
    linear.x[cols + 70] = NAN;
    for (int i = 0; i < 32; i++) linear.x[2 * cols + i] = 1e-36f;
    driver->write(linear.dx.address, linear.x.data(), linear.x.size() * 4);
  }
  linear.quantize();
  const Activations activations(linear.x);
  verdict(linear.x_numbers.read() == activations.numbers, "quantize numbers " + what, "other numbers");
  compare_scales("quantize scales " + what, linear.x_scales.read(), activations.scales);
  compare_scales("quantize sums " + what, linear.x_sums.read(), activations.sums);
  std::vector<float> expected;
  for (int t = 0; t < rows; t++)
    for (int j = 0; j < width; j++) expected.push_back(product(linear.planes, activations, t, j) + linear.bias[j]);
  for (bool many : {false, true}) {
    linear.run(many);
    std::vector<float> found;
    const auto all = linear.out.read();
    for (int t = 0; t < rows; t++)
      found.insert(found.end(), all.begin() + t * (width + 3), all.begin() + t * (width + 3) + width);
    compare_scales((many ? "linear_many_" : "linear_") + what, found, expected);
  }
}

inline void check_embed(Random& random, const Format& format) {
  const int width = 256, rows = 70;
  const Planes planes(random, format, rows, width);
  const std::vector<int> tokens{0, 69, 33, 1};
  std::vector<float> expected;
  for (int token : tokens)
    for (int c = 0; c < width; c++) {
      const volatile float scaled = planes.scale(token, c) * float(planes.number(token, c) - format.zero);
      expected.push_back(format.minimum ? scaled + planes.minimum(token, c / 32) : scaled);
    }
  Array<uint8_t> numbers(planes.numbers), scales(planes.scales), minima(planes.minima);
  Array<float> out(expected.size());
  Array<int> dtokens(tokens);
  driver->launch(std::string("embed_") + format.name, {4}, 256, out.address, numbers.address, scales.address,
                 minima.address, dtokens.address, width);
  compare(std::string("embed_") + format.name, out.read(), expected, 0.0);
}

template <class Element, class Convert>
void check_floats(Random& random, const std::string& name, double tolerance, Convert convert) {
  for (auto [rows, cols, width] : std::vector<std::array<int, 3>>{{1, 256, 7}, {9, 576, 33}, {70, 256, 40}}) {
    std::vector<Element> w(size_t(width) * cols);
    std::vector<float> weights;
    for (Element& element : w) {
      element = convert.from(random.normal());
      weights.push_back(convert.to(element));
    }
    const auto x = random.normals(size_t(rows) * cols), bias = random.normals(width);
    std::vector<float> expected;
    for (int t = 0; t < rows; t++)
      for (int j = 0; j < width; j++) {
        double sum = bias[j];
        for (int k = 0; k < cols; k++) sum += double(x[t * cols + k]) * weights[j * cols + k];
        expected.push_back(float(sum));
      }
    Array<Element> dw(w);
    Array<float> dx(x), dbias(bias), out(expected.size()), one(width);
    const auto run = [&](uint64_t to, uint64_t from, int count) {
      driver->launch("linear_" + name, {unsigned(width + 31) / 32, unsigned(count + 7) / 8}, 128, to, from, dw.address,
                     dbias.address, count, cols, width, width);
    };
    run(out.address, dx.address, rows);
    const auto found = out.read();
    compare("linear_" + name + " " + std::to_string(rows) + " rows", found, expected, tolerance);
    const int last = rows - 1;
    run(one.address, dx.address + size_t(last) * cols * 4, 1);
    compare("linear_" + name + ": a row alone", one.read(),
            std::vector<float>(found.begin() + last * width, found.end()), 0.0);
    const std::vector<int> tokens{width - 1, 0};
    std::vector<float> rows_of_table;
    for (int token : tokens)
      rows_of_table.insert(rows_of_table.end(), weights.begin() + token * cols, weights.begin() + (token + 1) * cols);
    Array<int> dtokens(tokens);
    Array<float> embedded(rows_of_table.size());
    driver->launch("embed_" + name, {2}, 256, embedded.address, dw.address, uint64_t(0), uint64_t(0), dtokens.address, cols);
    compare("embed_" + name, embedded.read(), rows_of_table, 0.0);
  }
}

struct Plain {
  float from(float x) const { return x; }
  float to(float x) const { return x; }
};
struct Half {
  uint16_t from(float x) const { return float_to_half(x); }
  float to(uint16_t x) const { return half_to_float(x); }
};
struct Bfloat {
  uint16_t from(float x) const { return uint16_t(bits(x) >> 16); }
  float to(uint16_t x) const {
    const uint32_t u = uint32_t(x) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
  }
};

inline void check_linear() {
  Random random(2);
  for (const Format& format : FORMATS) {
    check_quantised(random, format, 1, 256, 7);
    check_quantised(random, format, 5, 576, 97);
    check_quantised(random, format, 70, 1536, 64);
    check_quantised(random, format, 130, 64, 130);
    check_embed(random, format);
  }
  check_floats<float>(random, "f32", 2e-5, Plain());
  check_floats<uint16_t>(random, "f16", 1e-2, Half());
  check_floats<uint16_t>(random, "bf16", 1e-2, Bfloat());
}

inline void time_linear() {
  printf("%-14s %6s %6s %6s %10s %10s %10s\n", "linear", "rows", "cols", "width", "us", "GB/s", "TOP/s");
  Random random(3);
  for (const Format& format : FORMATS) {
    if (std::string(format.name) == "q5_1" || std::string(format.name) == "q5_k") continue;
    for (auto [cols, width] : {std::pair{576, 3072}, {576, 49152}, {4096, 14336}})
      for (int rows : {1, 8, 32, 512}) {
        Linear linear(random, format, rows, cols, width);
        linear.quantize();
        for (bool many : {false, true}) {
          if (many ? rows == 1 : rows == 512) continue;
          const double us = driver->time(10, [&] { linear.run(many); });
          const double weights = linear.planes.numbers.size() + linear.planes.scales.size() + linear.planes.minima.size();
          printf("%-14s %6d %6d %6d %10.1f %10.0f %10.1f\n", ((many ? "many " : "few  ") + std::string(format.name)).c_str(),
                 rows, cols, width, us, weights / us / 1e3, 2.0 * rows * cols * width / us / 1e6);
        }
      }
  }
}
