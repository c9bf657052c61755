// What the kernels are compared with: plain loops, random numbers, comparisons.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

inline uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

inline float half_to_float(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const float magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                          : exponent == 0 ? ldexpf(float(mantissa), -24)
                                          : ldexpf(float(mantissa + 1024), exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

inline uint16_t float_to_half(float x) {
  const uint16_t sign = bits(x) >> 16 & 0x8000;
  const float magnitude = fabsf(x);
  if (std::isnan(x)) return 0x7FFF;
  if (magnitude >= 65520.0f) return sign | 0x7C00;
  int exponent;
  frexpf(magnitude, &exponent);
  // A half has 11 bits; below 2^-14 its last one stands for 2^-24.
  const int last = std::max(exponent - 11, -24);
  const float rounded = ldexpf(nearbyintf(ldexpf(magnitude, -last)), last);
  if (rounded < ldexpf(1.0f, -14)) return sign | uint16_t(ldexpf(rounded, 24));
  frexpf(rounded, &exponent);
  return uint16_t(sign | (exponent + 14) << 10 | (int(ldexpf(rounded, 11 - exponent)) & 1023));
}

class Random {
 public:
  explicit Random(unsigned seed) : engine(seed) {}
  float normal() { return distribution(engine); }
  int below(int end) { return int(engine() % unsigned(end)); }
  std::vector<float> normals(size_t count, float by = 1.0f) {
    std::vector<float> values(count);
    for (float& x : values) x = normal() * by;
    return values;
  }
  std::vector<uint8_t> bytes(size_t count) {
    std::vector<uint8_t> values(count);
    for (uint8_t& x : values) x = uint8_t(engine());
    return values;
  }

 private:
  std::mt19937 engine;
  std::normal_distribution<float> distribution;
};

inline int failures = 0, checks = 0;

inline void verdict(bool good, const std::string& what, const std::string& why) {
  checks++;
  if (good) return;
  failures++;
  printf("FAIL %s: %s\n", what.c_str(), why.c_str());
}

/// The rule of `ops/suite.rs`: off by a share of itself plus the same share of the root mean square. 0 = the same bits.
inline void compare(const std::string& what, const std::vector<float>& found, const std::vector<float>& expected,
                    double tolerance) {
  double squares = 0.0;
  for (float x : expected) squares += double(x) * x;
  const double scale = sqrt(squares / double(expected.size()));
  for (size_t i = 0; i < expected.size(); i++) {
    const bool good = tolerance == 0.0
                          ? bits(found[i]) == bits(expected[i])
                          : fabs(double(found[i]) - expected[i]) <= tolerance * (scale + fabs(expected[i]));
    if (!good) {
      char why[160];
      snprintf(why, sizeof why, "element %zu of %zu is %.9g, expected %.9g", i, expected.size(), double(found[i]),
               double(expected[i]));
      return verdict(false, what, why);
    }
  }
  verdict(true, what, "");
}
