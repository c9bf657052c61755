/** Numbers of sessions under /metrics: each is there from the start, and is what it was when it was last written. */

import { expect, test } from "bun:test";
import { SampleStore } from "../../../../engine/connectors/sample-store.ts";
import {
  SessionCounts,
  SessionSeries,
} from "../../../../engine/connectors/sessions/session-series.ts";

test("tell sessions by state, what they keep, and what became of moves, from the start and at most once a second", () => {
  const samples = new SampleStore();
  const counts = new SessionCounts();
  let kept = { frozen: 0, gone: 0, tokens: 0, bytes: 0 };
  let now = 0;
  const series = new SessionSeries(samples, { counts, kept: () => kept }, () => now);
  const changed = (): Record<string, number> =>
    Object.fromEntries(
      samples.take().map(({ name, labels, value }) => {
        const text = Object.values(labels).join(" ");
        return [`${name.replace("kvengine:session", "")} ${text}`.trim(), value];
      }),
    );
  const first = changed();
  expect(Object.values(first).every((value) => value === 0)).toBe(true);
  expect(Object.keys(first).toSorted()).toEqual(
    [
      ...["s frozen", "s gone", "_kept_tokens", "_kept_bytes"],
      ...["freeze", "thaw", "export", "import"].flatMap((move) => [
        `_moves_total ${move} ok`,
        `_moves_total ${move} failed`,
      ]),
      ...["_file_bytes_total export", "_file_bytes_total import"],
    ].toSorted(),
  );
  counts.moved("freeze", "ok");
  counts.moved("export", "failed");
  counts.moved("export", "ok");
  counts.filed("export", 4096);
  kept = { frozen: 2, gone: 1, tokens: 96, bytes: 600 };
  series.update(false);
  expect(changed()).toEqual({
    ...{ "s frozen": 2, "s gone": 1, _kept_tokens: 96, _kept_bytes: 600 },
    ...{ "_moves_total freeze ok": 1, "_moves_total export ok": 1 },
    ...{ "_moves_total export failed": 1, "_file_bytes_total export": 4096 },
  });
  kept = { frozen: 0, gone: 3, tokens: 96, bytes: 600 };
  now = 999;
  series.update(false);
  expect(changed()).toEqual({});
  // No message follows soon.
  series.update(true);
  expect(changed()).toEqual({ "s frozen": 0, "s gone": 3 });
});
