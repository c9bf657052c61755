import { describe, expect, test } from "bun:test";
import { peakConcurrency, steadyState } from "../../../cli/bench/metrics/steady-state.ts";
import { timeSeries } from "../../../cli/bench/metrics/time-series.ts";
import { recordOf } from "../../support/bench-runs.ts";

/** Open from `from` to `to`, with a token at each of `at`. */
function open(from: number, to: number, at: readonly number[] = []): ReturnType<typeof recordOf> {
  return recordOf(from, at, { endedAt: to });
}

describe("peak concurrency", () => {
  test("counts requests open at one moment; one that ends as another begins is not beside it", () => {
    expect(peakConcurrency([open(0, 100), open(50, 150), open(100, 200)])).toBe(2);
    expect(peakConcurrency([])).toBe(0);
  });
});

describe("the steady state", () => {
  test("is the longest window at full load, and counts what lies in it", () => {
    // Two at a time from 1000 to 5000; a ramp before and a tail after.
    const found = steadyState(
      [
        open(0, 4000, [500, 1000, 1500, 2500, 3500]),
        open(1000, 5000, [2000, 5000]),
        open(4000, 9000, [4500, 6000, 7000]),
      ],
      1,
    );
    expect(found).toEqual({
      startAt: 1000,
      endAt: 5000,
      threshold: 2,
      // Those that ended at 4000 and at 5000.
      requestThroughput: 2 / 4,
      // 1500, 2000, 2500, 3500, 4500, 5000; what came at 1000 came before.
      outputThroughput: 6 / 4,
      // First tokens at 2000 and 4500, of ten prompt tokens each.
      inputThroughput: 20 / 4,
      meanConcurrency: 2,
    });
  });

  test("goes on over the moment in which a client sends its next request, not over a longer pause", () => {
    const withPause = (pause: number): (number | undefined)[] => {
      const found = steadyState([open(0, 1000), open(0, 500), open(500 + pause, 1000)], 1);
      return [found?.startAt, found?.endAt];
    };
    expect(withPause(50)).toEqual([0, 1000]);
    expect(withPause(51)).toEqual([0, 500]);
  });

  test("needs the share of the peak that is asked for, at least one request", () => {
    const requests = [...Array.from({ length: 10 }, () => open(0, 100)), open(0, 1000)];
    expect(steadyState(requests, 0.9)).toMatchObject({ threshold: 10, endAt: 100 });
    expect(steadyState(requests, 0.01)).toMatchObject({ threshold: 1, endAt: 1000 });
  });

  test("leaves failed requests out of the ended ones and keeps their tokens and their load", () => {
    const cut = { ...open(0, 1000, [100]), outcome: "cut" as const };
    expect(steadyState([cut], 1)).toMatchObject({ requestThroughput: 0, outputThroughput: 1 });
  });

  test("is none where no request took any time", () => {
    expect(steadyState([], 0.9)).toBeUndefined();
    expect(steadyState([open(5, 5)], 0.9)).toBeUndefined();
  });
});

describe("the series", () => {
  test("puts tokens into the bucket in which they came, and requests into all in which they were open", () => {
    const found = timeSeries(
      [
        recordOf(500, [1400, 1499, 1500, 2600], { cachedTokens: 4, promptTokens: 10 }),
        recordOf(900, [3499], { outcome: "cut", outputTokens: 3, promptTokens: 7 }),
      ],
      1000,
    );
    // Buckets begin at 500, 1500, 2500.
    expect(found).toEqual({
      bucketMs: 1000,
      startAt: 500,
      outputTokens: [2, 1, 2],
      openRequests: [2, 2, 2],
      // 500–1500 and 900–1500; both whole seconds; 2500–2600 and 2500–3499.
      concurrency: [1.6, 2, 1.099],
      promptTokens: { computed: [6, 0, 7], cached: [4, 0, 0] },
    });
  });

  test("of nothing is empty", () => {
    expect(timeSeries([], 1000).outputTokens).toEqual([]);
  });
});
