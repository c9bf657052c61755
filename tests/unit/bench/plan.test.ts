import { describe, expect, test } from "bun:test";
import { resolveConfig } from "../../../engine/config-values.ts";
import type { OptionName, OptionValues } from "../../../engine/config.ts";
import { loadPlan } from "../../../cli/bench/plan.ts";
import { runOptions } from "../../../cli/bench/serve/run-options.ts";
import { parseSloTargets } from "../../../cli/bench/slo.ts";
import { SATURATION_RULE } from "../../../cli/bench/load/saturation.ts";
import { thrownBy } from "../../support/thrown.ts";

type Flags = Partial<Record<OptionName, string | boolean | readonly string[]>>;

function values(flags: Flags = {}): OptionValues {
  const given = new Map(Object.entries(flags) as [OptionName, string][]);
  return resolveConfig("bench serve", { flags: given, env: {} }).values;
}

const INFINITE = Number.POSITIVE_INFINITY;

describe("the plan of a load", () => {
  test("is all at once to the end, unless something else is asked for", () => {
    expect(loadPlan(values())).toEqual({
      requestRate: INFINITE,
      burstiness: 1,
      maxConcurrency: INFINITE,
      durationMs: INFINITE,
      seed: 0,
    });
  });

  test("has what the flags say", () => {
    const flags = {
      "request-rate": "2.5",
      burstiness: "inf",
      "max-concurrency": "8",
      duration: "1.5",
      seed: "7",
    };
    expect(loadPlan(values(flags))).toEqual({
      requestRate: 2.5,
      burstiness: INFINITE,
      maxConcurrency: 8,
      durationMs: 1500,
      seed: 7,
    });
    expect(loadPlan(values({ "request-rate": "inf" })).requestRate).toBe(INFINITE);
  });

  test("takes the concurrency of the data set where none is given", () => {
    expect(loadPlan(values(), 3).maxConcurrency).toBe(3);
    expect(loadPlan(values({ "max-concurrency": "8" }), 3).maxConcurrency).toBe(8);
  });

  test("has a ramp of the rate, or of the concurrency", () => {
    const rate = { "ramp-up-start-rps": "1", "ramp-up-end-rps": "4" };
    expect(loadPlan(values(rate))).toMatchObject({
      requestRate: 1,
      ramp: { shape: "linear", from: 1, to: 4 },
    });
    const concurrency = {
      "ramp-up-strategy": "exponential",
      "ramp-up-start-concurrency": "2",
      "ramp-up-end-concurrency": "16",
    };
    expect(loadPlan(values(concurrency))).toMatchObject({
      requestRate: INFINITE,
      ramp: { shape: "exponential", from: 2, to: 16 },
    });
  });

  test("is refused where flags contradict each other", async () => {
    const rate = { "ramp-up-start-rps": "1", "ramp-up-end-rps": "4" };
    const concurrency = { "ramp-up-start-concurrency": "1", "ramp-up-end-concurrency": "4" };
    const cases: readonly [Flags, string][] = [
      [{ ...rate, "request-rate": "3" }, "--request-rate"],
      [{ ...rate, ...concurrency }, "--ramp-up-start-concurrency"],
      [{ ...concurrency, "request-rate": "3" }, "--ramp-up-start-concurrency"],
      [{ "ramp-up-strategy": "linear" }, "--ramp-up-strategy"],
      [{ "ramp-up-start-rps": "1" }, "--ramp-up-end-rps"],
      [{ "ramp-up-end-concurrency": "1" }, "--ramp-up-start-concurrency"],
    ];
    for (const [flags, subject] of cases) {
      const error = await thrownBy(() => loadPlan(values(flags)));
      expect([error.code, error.subject]).toEqual(["bad_config", subject]);
    }
  });
});

describe("limits of latencies", () => {
  test("are read from one text or several", () => {
    expect(parseSloTargets(["ttft:500, tpot:50.5", "e2el:9000"], "--x")).toEqual({
      ttft: 500,
      tpot: 50.5,
      e2el: 9000,
    });
    expect(parseSloTargets([], "--x")).toEqual({});
  });

  test("of another form are refused", async () => {
    for (const text of ["ttft", "ttft:", "ttft:0", "ttft:-1", "itl:5", "ttft:1,ttft:2", "ttft=5"]) {
      const error = await thrownBy(() => parseSloTargets([text], "--slo-search"));
      expect([error.code, error.subject]).toEqual(["bad_config", "--slo-search"]);
    }
  });
});

describe("what runs have in common", () => {
  test("is greedy sampling and no more fields, unless asked for", () => {
    const options = runOptions(values(), {});
    expect(options.extraBody).toEqual({ temperature: 0 });
    expect(options.headers).toEqual({});
    expect(options.saturation).toBeUndefined();
    expect(options.patience).toEqual({
      connectMs: 10_000,
      firstChunkMs: 600_000,
      stallMs: 120_000,
    });
  });

  test("has headers, sampling and the user's own fields over ours", () => {
    const flags = {
      header: ["X-A=b=c", "authorization=Basic x"],
      "api-key": "k",
      "top-k": "4",
      "top-p": "0.5",
      "min-p": "0.1",
      "extra-body": '{"temperature": 1, "x": [1]}',
      "stop-over-saturation": true,
    };
    const options = runOptions(values(flags), {});
    expect(options.headers).toEqual({ "x-a": "b=c", authorization: "Basic x" });
    expect(options.extraBody).toEqual({ temperature: 1, top_k: 4, top_p: 0.5, min_p: 0.1, x: [1] });
    expect(options.saturation).toBe(SATURATION_RULE);
    expect(runOptions(values({ "api-key": "k" }), {}).headers).toEqual({
      authorization: "Bearer k",
    });
  });

  test("refuses headers and bodies that are none", async () => {
    const cases: readonly Flags[] = [
      { header: ["x"] },
      { header: ["a b=c"] },
      { header: ["a=b\r\nc: d"] },
      { "extra-body": "{" },
      { "extra-body": "[]" },
    ];
    for (const flags of cases)
      expect((await thrownBy(() => runOptions(values(flags), {}))).code).toBe("bad_config");
  });
});
