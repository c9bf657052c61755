// Kernels: sound ones compute what they should in every order, planted mistakes are named.
#include "scenario.h"

#include <cstring>

namespace {

void run_and_expect(const char* name, const std::vector<float>& x, const std::vector<float>& expected, Shape shape = {}) {
    open_device();
    Floats from(x), to(std::vector<float>(expected.size(), 0.0f));
    must(launch(name, to, from, nullptr, shape));
    expect(to.read() == expected, name);
}

/// Runs a kernel that makes a mistake: the error comes at a later call, as from a device.
void run_bad(const char* name, Shape shape = {}, size_t count = 128, size_t results = 512) {
    open_device();
    Floats from(counting(count)), to(std::vector<float>(results, 0.0f));
    must(launch(name, to, from, nullptr, shape));
    must(cuCtxSynchronize());
    to.read();
}

std::vector<float> made(size_t count, float (*value)(size_t)) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; i++) values[i] = value(i);
    return values;
}

}  // namespace

SCENARIO(a_kernel_computes_over_several_blocks) {
    run_and_expect("twice", counting(1000), made(1000, [](size_t i) { return 2.0f * float(i + 1); }), {8, 128});
}
SCENARIO(a_barrier_orders_shared_memory) {
    run_and_expect("reverse", counting(128), made(128, [](size_t i) { return float(128 - i); }));
}
SCENARIO(atomic_sums_of_blocks_are_no_race) { run_and_expect("sum_of_blocks", counting(32), {528.0f}, {32, 32}); }
SCENARIO(a_fused_reduction_has_the_bits_of_shuffles) {
    open_device();
    std::vector<float> x = made(32, [](size_t i) { return 1.0f / float(3 * i + 1); });
    Floats from(x), fused(32), shuffled(32);
    must(launch("sum_of_warp", fused, from, nullptr, {1, 32}));
    must(launch("sum_by_shuffles", shuffled, from, nullptr, {1, 32}));
    std::vector<float> a = fused.read(), b = shuffled.read();
    expect(memcmp(a.data(), b.data(), 128) == 0 && a[0] == a[31], "the sums differ");
}
SCENARIO(syncwarp_orders_the_lanes_of_a_warp) {
    run_and_expect("neighbours_in_a_warp", counting(128), made(128, [](size_t i) { return float((i ^ 1) + 1); }));
}
SCENARIO(a_vote_counts_every_lane) {
    run_and_expect("votes", made(32, [](size_t i) { return i % 3 == 0 ? 1.0f : -1.0f; }), std::vector<float>(32, 11.0f), {1, 32});
}
SCENARIO(shuffles_keep_to_their_width) {
    run_and_expect("shuffles", counting(32), made(32, [](size_t i) {
        size_t up = i % 8 == 0 ? i : i - 1, down = i % 16 >= 14 ? i : i + 2, index = i / 8 * 8 + 3;
        return float(up + 1) + 100.0f * float(down + 1) + 10000.0f * float(index + 1);
    }), {1, 32});
}
SCENARIO(threads_that_have_ended_count_as_arrived) {
    run_and_expect("half_the_block_leaves", counting(128), made(64, [](size_t i) { return float(i + 1); }));
}
SCENARIO(asynchronous_copies_arrive_when_waited_for) {
    run_and_expect("staged", counting(256), made(256, [](size_t i) { return float(4 * (63 - i / 4) + i % 4 + 1); }), {1, 64, 1024});
}
SCENARIO(fragments_lie_where_cute_has_them) {
    std::vector<float> x(256 + 128), expected(128);
    for (size_t i = 0; i < x.size(); i++) x[i] = float(int(i * 7 % 13) - 6);
    for (size_t m = 0; m < 16; m++)
        for (size_t n = 0; n < 8; n++)
            for (size_t k = 0; k < 16; k++) expected[m + 16 * n] += x[m + 16 * k] * x[256 + n + 8 * k];
    run_and_expect("matrix_product", x, expected, {1, 32});
}

SCENARIO(bad_no_barrier) { run_bad("bad_no_barrier"); }
SCENARIO(bad_write_after_read) { run_bad("bad_write_after_read"); }
SCENARIO(bad_no_syncwarp) { run_bad("bad_no_syncwarp"); }
SCENARIO(bad_read_past_the_end) { run_bad("bad_read_past_the_end"); }
SCENARIO(bad_write_past_the_end) { run_bad("bad_write_past_the_end", {}, 128, 128); }
SCENARIO(bad_far_read) { run_bad("bad_far_read"); }
SCENARIO(bad_shared_past_the_end) { run_bad("bad_shared_past_the_end", {1, 128, 512}); }
SCENARIO(bad_own_array) { run_bad("bad_own_array", {}, 512); }
SCENARIO(bad_alignment) { run_bad("bad_alignment"); }
SCENARIO(bad_divergence) { run_bad("bad_divergence"); }
SCENARIO(bad_barrier_in_a_branch) { run_bad("bad_barrier_in_a_branch"); }
SCENARIO(bad_lane_not_in_mask) { run_bad("bad_lane_not_in_mask"); }
SCENARIO(bad_blocks_add) { run_bad("bad_blocks_add", {4, 32}); }
SCENARIO(bad_blocks_write_what_others_read) { run_bad("bad_blocks_write_what_others_read", {4, 32}); }
SCENARIO(bad_unwritten) {
    open_device();
    Floats from(128), to(128);
    must(launch("bad_unwritten", to, from));
    to.read();
}
SCENARIO(bad_copy_not_waited_for) { run_bad("bad_copy_not_waited_for", {1, 32, 512}); }
SCENARIO(bad_copy_without_barrier) { run_bad("bad_copy_without_barrier", {1, 32, 512}); }
SCENARIO(bad_copy_left_behind) { run_bad("bad_copy_left_behind", {1, 32, 512}); }
SCENARIO(bad_zeros_not_waited_for) { run_bad("bad_zeros_not_waited_for", {1, 32, 512}); }
SCENARIO(bad_zeros_left_behind) { run_bad("bad_zeros_left_behind", {1, 32, 512}); }
SCENARIO(bad_shift) { run_bad("bad_shift"); }
SCENARIO(use_after_free) {
    open_device();
    Floats from(counting(128)), to(128);
    must(cuMemFree(from.at));
    must(launch("twice", to, from));
    to.read();
}
SCENARIO(a_host_pointer_is_refused) {
    open_device();
    static float own[128];
    Floats to(128), from(1);
    from.at = reinterpret_cast<CUdeviceptr>(own);
    from.count = 128;
    must(launch("twice", to, from));
    to.read();
}
