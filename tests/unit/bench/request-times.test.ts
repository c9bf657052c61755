import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { requestTimes, tokensByChunk } from "../../../cli/bench/metrics/request-times.ts";
import { recordOf } from "../../support/bench-runs.ts";
import { propertyRuns } from "../../support/property-runs.ts";

describe("the times of a request", () => {
  test("are counted from sending; TPOT leaves out the first token", () => {
    // Sent at 100; tokens at 150, 160, 190, 200.
    expect(requestTimes(recordOf(100, [150, 160, 190, 200]))).toEqual({
      ttft: 50,
      tpot: 50 / 3,
      e2el: 100,
      chunkGaps: [10, 30, 10],
      tokenGaps: [10, 30, 10],
      perToken: true,
    });
  });

  test("end with the last chunk, not with the end of the response", () => {
    expect(requestTimes(recordOf(0, [10, 20], { endedAt: 35 })).e2el).toBe(20);
  });

  test("share a chunk's gap among its tokens; those of the first chunk have no gap", () => {
    const chunks = [
      { at: 50, numTokens: 2 },
      { at: 62, numTokens: 3 },
      { at: 70, numTokens: 1 },
    ];
    const times = requestTimes(recordOf(0, [], { chunks, endedAt: 70, outputTokens: 6 }));
    expect(times.tokenGaps).toEqual([4, 4, 4, 8]);
    expect(times.chunkGaps).toEqual([12, 8]);
    expect(times.tpot).toBe(20 / 5);
  });

  test("are per chunk where one chunk's tokens were not told", () => {
    const chunks = [
      { at: 50, numTokens: 1 },
      { at: 60, numTokens: 0 },
      { at: 90, numTokens: 2 },
    ];
    const times = requestTimes(recordOf(0, [], { chunks, outputTokens: 8 }));
    expect([times.perToken, times.tokenGaps, times.chunkGaps]).toEqual([false, [10, 30], [10, 30]]);
    expect(times.tpot).toBe(40 / 7);
  });

  test("of one token have no TPOT; nor have those that came in one chunk", () => {
    expect(requestTimes(recordOf(0, [30])).tpot).toBeUndefined();
    const whole = recordOf(0, [], { chunks: [{ at: 30, numTokens: 8 }], outputTokens: 8 });
    expect(requestTimes(whole)).toEqual({
      ttft: 30,
      e2el: 30,
      chunkGaps: [],
      tokenGaps: [],
      perToken: true,
    });
  });

  test("without output are the time to the end alone", () => {
    expect(requestTimes(recordOf(5, [], { endedAt: 25 }))).toEqual({
      e2el: 20,
      chunkGaps: [],
      tokenGaps: [],
      perToken: false,
    });
  });

  test("add up: token gaps and chunk gaps to the time from the first chunk to the last", () => {
    const chunk = fc.record({ gap: fc.integer({ min: 0, max: 100 }), numTokens: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(chunk, { minLength: 1, maxLength: 20 }), (parts) => {
        let at = 7;
        const chunks = parts.map(({ gap, numTokens }) => ({ at: (at += gap), numTokens }));
        const record = recordOf(0, [], { chunks, outputTokens: 9 });
        const { tokenGaps, chunkGaps } = requestTimes(record);
        const span = (chunks.at(-1)?.at ?? 0) - (chunks[0]?.at ?? 0);
        const total = (gaps: readonly number[]): number => gaps.reduce((sum, gap) => sum + gap, 0);
        expect(total(chunkGaps)).toBe(span);
        expect(total(tokenGaps)).toBeCloseTo(span, 9);
      }),
      propertyRuns(200),
    );
  });
});

describe("tokens by chunk", () => {
  test("are those told, else an even share", () => {
    const told = [
      { at: 1, numTokens: 3 },
      { at: 2, numTokens: 1 },
    ];
    const untold = told.map(({ at }) => ({ at, numTokens: 0 }));
    expect(tokensByChunk(recordOf(0, [], { chunks: told, outputTokens: 4 }))).toEqual([3, 1]);
    expect(tokensByChunk(recordOf(0, [], { chunks: untold, outputTokens: 5 }))).toEqual([2.5, 2.5]);
    expect(tokensByChunk(recordOf(0, []))).toEqual([]);
  });
});
