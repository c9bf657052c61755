/** The emulated driver itself: what is right passes on every seed and in every order, each planted mistake is named. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { buildEmulator, CAN_EMULATE, emulated, SCENARIOS } from "./build.ts";
import { SETTINGS } from "./settings.ts";

/** Each has a process for each of the settings. */
setDefaultTimeout(60_000);

interface Ending {
  readonly settings: string;
  readonly outcome: "passes" | "error" | "wrong values" | "crashed";
  readonly message: string;
}

async function run(scenario: string, extra = ""): Promise<Ending[]> {
  const settings = SETTINGS.map((one) => one + extra);
  const child = Bun.spawn([SCENARIOS, scenario, ...settings], {
    env: { ...process.env, ...emulated("scenarios") },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = (await new Response(child.stdout).text()).trim().split("\n");
  expect(await child.exited).toBe(0);
  const endings = lines.map((line): Ending => JSON.parse(line));
  expect(endings).toHaveLength(settings.length);
  return endings;
}

/** Scenarios without a mistake, with what else is set for them. */
const SOUND: Readonly<Record<string, string>> = {
  a_kernel_computes_over_several_blocks: "",
  a_barrier_orders_shared_memory: "",
  atomic_sums_of_blocks_are_no_race: "",
  a_fused_reduction_has_the_bits_of_shuffles: "",
  syncwarp_orders_the_lanes_of_a_warp: "",
  a_vote_counts_every_lane: "",
  shuffles_keep_to_their_width: "",
  threads_that_have_ended_count_as_arrived: "",
  asynchronous_copies_arrive_when_waited_for: "",
  fragments_lie_where_cute_has_them: "",
  an_event_orders_two_streams: "",
  queueing_never_executes: "",
  a_host_wait_orders_what_is_queued_later: "",
  a_successful_query_orders_what_is_queued_later: "",
  the_legacy_stream_orders_blocking_streams: "",
  a_pinned_source_is_read_when_the_copy_runs: "",
  a_pageable_source_is_read_in_the_call: "",
  allocations_and_frees_keep_stream_order: "",
  addresses_are_never_used_again: "",
  a_kernel_reads_pinned_memory: "",
  a_host_function_runs_in_stream_order: "",
  memory_has_an_end: ",memory=16",
  a_graph_runs_each_time_it_is_launched: "",
  branches_of_a_graph_are_joined_by_events: "",
  a_capture_refuses_waits_and_allocations: "",
  a_capture_that_is_not_joined_is_refused: "",
  the_legacy_stream_cannot_be_captured: "",
  calls_need_a_context_on_their_thread: "",
  launches_are_held_to_the_limits: "",
  modules_must_be_the_hosts_kernels: "",
  errors_of_the_device_are_final: ",fail:kernel:twice@1=700",
  an_injected_failure_comes_once: ",fail:cuMemAlloc_v2@2=2",
};

/** Scenarios with one mistake each, and the words that must name it on every seed. */
const MISTAKES: Readonly<Record<string, RegExp>> = {
  bad_no_barrier: /shared-memory race: .* with no barrier between \(kernels\.cu:\d+\)/,
  bad_write_after_read: /shared-memory race: .* with no barrier between \(kernels\.cu:\d+\)/,
  bad_no_syncwarp: /shared-memory race: .* with no barrier between \(kernels\.cu:\d+\)/,
  bad_read_past_the_end:
    /out-of-bounds read of 4 bytes at byte 512 of allocation 1, which has 512 \(kernels\.cu:\d+\)/,
  bad_write_past_the_end:
    /out-of-bounds write of 4 bytes at byte 512 of allocation 2, which has 512 \(kernels\.cu:\d+\)/,
  bad_far_read: /out-of-bounds read .*\(kernels\.cu:\d+\)/,
  bad_shared_past_the_end:
    /out-of-bounds write of 4 bytes at byte 512 of 512 of dynamic shared memory \(kernels\.cu:\d+\)/,
  bad_own_array: /index 4 is outside of its array \(kernels\.cu:\d+\)/,
  bad_alignment: /misaligned access of a type that wants multiples of 16 \(kernels\.cu:\d+\)/,
  bad_divergence:
    /warp diverged: lane \d+ in __\w+ with mask ffffffff \(kernels\.cu:\d+\), lane \d+ in __\w+ with mask ffffffff \(kernels\.cu:\d+\)/,
  bad_barrier_in_a_branch:
    /deadlock: .* 24 in __shfl_xor_sync \(kernels\.cu:\d+\).* 40 in __syncthreads \(kernels\.cu:\d+\)/,
  bad_lane_not_in_mask:
    /__shfl_sync: lane \d+ (?:reads lane \d+, which is not in the mask|is not in its own mask) \w+ \(kernels\.cu:\d+\)/,
  bad_blocks_add: /blocks race: .* of the same launch \(kernels\.cu:\d+\)/,
  bad_blocks_write_what_others_read: /blocks race: .* of the same launch \(kernels\.cu:\d+\)/,
  bad_unwritten: /read of byte \d+ of allocation 1, which nothing has written \(kernels\.cu:\d+\)/,
  bad_copy_not_waited_for:
    /the cp\.async of thread \d+ that writes it was not waited for \(kernels\.cu:\d+\)/,
  bad_copy_without_barrier: /shared-memory race: .* with no barrier between \(kernels\.cu:\d+\)/,
  bad_copy_left_behind: /ended with a cp\.async that was not waited for \(kernels\.cu:\d+\)/,
  bad_zeros_not_waited_for:
    /the cp\.async of thread \d+ that writes it was not waited for \(kernels\.cu:\d+\)/,
  bad_zeros_left_behind: /ended with a cp\.async that was not waited for \(kernels\.cu:\d+\)/,
  bad_shift: /shift by 68 \(kernels\.cu:\d+\)/,
  use_after_free: /use after free: read of 4 bytes at byte \d+ of allocation 1 \(kernels\.cu:\d+\)/,
  a_host_pointer_is_refused: /not memory of the device \(kernels\.cu:\d+\)/,
  bad_missing_event:
    /stream race: kernel twice \(stream \d, operation \d+\) (?:reads|writes) .* by kernel twice \(stream \d, operation \d+\), with no event or wait between/,
  bad_legacy_stream_beside_a_non_blocking_one: /stream race: .* with no event or wait between/,
  bad_event_recorded_too_early: /stream race: .* with no event or wait between/,
  bad_overwritten_while_another_stream_reads: /stream race: .* with no event or wait between/,
  bad_pinned_source_reused_too_early:
    /the pinned source was changed at byte \d+ between the call and the copy/,
  bad_pinned_memory_freed_too_early: /use after free: read of 1024 bytes/,
  bad_used_before_its_allocation:
    /before its allocation in stream order|stream race: fill .* allocation .* with no event or wait between/,
  bad_freed_while_another_stream_reads:
    /use after free|stream race: free .* with no event or wait between/,
  bad_copy_past_the_end:
    /out-of-bounds write of 1028 bytes at byte 0 of allocation 1, which has 1024/,
  bad_branch_that_races:
    /stream race: .* by kernel twice \(graph branch \d, operation \d\), with no event or wait between/,
  bad_graph_reads_what_another_stream_writes: /stream race: .* with no event or wait between/,
};

describe.skipIf(!CAN_EMULATE)("the emulated driver", () => {
  beforeAll(() => buildEmulator(), 600_000);

  for (const [scenario, extra] of Object.entries(SOUND)) {
    test(scenario.replaceAll("_", " "), async () => {
      const wrong = (await run(scenario, extra)).filter(({ outcome }) => outcome !== "passes");
      expect(wrong).toEqual([]);
    });
  }

  for (const [scenario, words] of Object.entries(MISTAKES)) {
    test(`names a mistake on every seed: ${scenario.replaceAll("_", " ")}`, async () => {
      const unnamed = (await run(scenario)).filter(
        ({ outcome, message }) => outcome !== "error" || !words.test(message),
      );
      expect(unnamed).toEqual([]);
    });
  }

  test("every scenario is listed here", async () => {
    const child = Bun.spawn([SCENARIOS, "--list"], {
      env: { ...process.env, ...emulated("scenarios") },
      stdin: "ignore",
      stdout: "pipe",
    });
    const listed = (await new Response(child.stdout).text()).trim().split("\n");
    expect(listed.toSorted()).toEqual([...Object.keys(SOUND), ...Object.keys(MISTAKES)].toSorted());
  });

  test("settings that cannot be read end the program", async () => {
    for (const settings of ["seeds=1", "seed=x", "threads=last", "streams=eager", "fail:cuInit"]) {
      const child = Bun.spawn([SCENARIOS, "a_vote_counts_every_lane", settings], {
        env: { ...process.env, ...emulated("scenarios") },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "ignore",
      });
      const text = await new Response(child.stdout).text();
      expect(JSON.parse(text)).toMatchObject({ settings, outcome: "crashed" });
    }
  });
});
