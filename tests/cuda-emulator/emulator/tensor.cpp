#include "tensor.h"

#include <array>

namespace cuemu {
namespace {

constexpr int M = 16, N = 8;

/// The order of one instruction's 16 products: which go together, and how many.
struct Order {
    std::array<int, 16> places;
    int group;
};

Order seeded_order() {
    Random random(config().seed * 2 + 1);
    Order order{};
    for (int i = 0; i < 16; i++) order.places[size_t(i)] = i;
    for (unsigned i = 16; i > 1; i--) std::swap(order.places[i - 1], order.places[random.below(i)]);
    order.group = 4 << random.below(3);
    return order;
}

float cut_off(double x) {
    float rounded = float(x);
    return fabs(double(rounded)) > fabs(x) ? nextafterf(rounded, 0.0f) : rounded;
}

double element(Call call, uint32_t word, unsigned half) {
    uint16_t bits = uint16_t(word >> 16 * half);
    if (call == Call::mma_bf16) return double(from_bits<float>(uint32_t(bits) << 16));
    __half_raw raw;
    raw.x = bits;
    return double(__half2float(__half(raw)));
}

int8_t byte(uint32_t word, unsigned place) { return int8_t(word >> 8 * place); }

/// A lane's registers of 16-bit factors: row (or column) lane / 4, + 8 in A's odd registers; place along k (lane % 4) * 2,
/// + 8 in the later half of the registers. D: rows lane / 4 and + 8, columns (lane % 4) * 2 and + 1.
void multiply_halves(Call call, Fiber* lanes, unsigned row, unsigned column, unsigned columns, const Order& order) {
    double a[16][M], b[16][N];
    for (unsigned lane = 0; lane < 32; lane++) {
        auto* first = static_cast<const uint32_t*>(lanes[lane].a) + 4 * row;
        auto* second = static_cast<const uint32_t*>(lanes[lane].b) + 2 * column;
        unsigned line = lane / 4, k = lane % 4 * 2;
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned r = 0; r < 4; r++) a[k + half + r / 2 * 8][line + r % 2 * 8] = element(call, first[r], half);
            for (unsigned r = 0; r < 2; r++) b[k + half + r * 8][line] = element(call, second[r], half);
        }
    }
    float d[M][N];
    for (unsigned lane = 0; lane < 32; lane++) {
        auto* own = static_cast<const float*>(lanes[lane].d) + 4 * (row * columns + column);
        for (unsigned r = 0; r < 4; r++) d[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2] = own[r];
    }
    for (int from = 0; from < 16; from += order.group) {
        for (int i = 0; i < M; i++) {
            double sums[N];
            for (int j = 0; j < N; j++) sums[j] = double(d[i][j]);
            for (int k = from; k < from + order.group; k++) {
                int place = order.places[size_t(k)];
                for (int j = 0; j < N; j++) sums[j] += a[place][i] * b[place][j];
            }
            for (int j = 0; j < N; j++) d[i][j] = cut_off(sums[j]);
        }
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        auto* own = static_cast<float*>(lanes[lane].d) + 4 * (row * columns + column);
        for (unsigned r = 0; r < 4; r++) own[r] = d[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
    }
}

/// As above with four bytes a register: place along k (lane % 4) * 4, + 16 in the later half of the registers.
void multiply_bytes(Fiber* lanes, unsigned row, unsigned column, unsigned columns) {
    int a[32][M], b[32][N];
    for (unsigned lane = 0; lane < 32; lane++) {
        auto* first = static_cast<const uint32_t*>(lanes[lane].a) + 4 * row;
        auto* second = static_cast<const uint32_t*>(lanes[lane].b) + 2 * column;
        unsigned line = lane / 4, k = lane % 4 * 4;
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned r = 0; r < 4; r++) a[k + i + r / 2 * 16][line + r % 2 * 8] = byte(first[r], i);
            for (unsigned r = 0; r < 2; r++) b[k + i + r * 16][line] = byte(second[r], i);
        }
    }
    int d[M][N] = {};
    for (int k = 0; k < 32; k++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) d[i][j] += a[k][i] * b[k][j];
    for (unsigned lane = 0; lane < 32; lane++) {
        auto* own = static_cast<int*>(lanes[lane].d) + 4 * (row * columns + column);
        for (unsigned r = 0; r < 4; r++) own[r] += d[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
    }
}

}  // namespace

void compute_mma(Call call, Fiber* lanes) {
    static const Order order = seeded_order();
    unsigned rows = lanes[0].operand, columns = lanes[0].width;
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned column = 0; column < columns; column++) {
            if (call == Call::mma_s8) multiply_bytes(lanes, row, column, columns);
            else multiply_halves(call, lanes, row, column, columns, order);
        }
    }
}

}  // namespace cuemu
