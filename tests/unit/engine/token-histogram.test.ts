import { describe, expect, test } from "bun:test";
import { Histogram, Registry } from "prom-client";
import { TokenHistogram } from "../../../engine/token-histogram.ts";

describe("the token histogram", () => {
  test("is rendered as prom-client's own of the same values", async () => {
    const [own, theirs] = [new Registry(), new Registry()];
    for (const registry of [own, theirs]) registry.setDefaultLabels({ engine: "0" });
    const options = { name: "seconds", help: "From one to the next", buckets: [0.25, 0.5, 2] };
    const counts = new TokenHistogram({ ...options, registers: [own] });
    const histogram = new Histogram({ ...options, registers: [theirs] });
    expect(await own.metrics()).toBe(await theirs.metrics());
    for (const value of [0, 0.25, 0.3125, 0.5, 2, 2.5, 1000]) {
      for (const times of [1, 3]) {
        counts.add(value, times);
        for (let i = 0; i < times; i++) histogram.observe(value);
      }
    }
    expect(await own.metrics()).toBe(await theirs.metrics());
    expect(await own.getMetricsAsJSON()).toHaveLength(1);
  });
});
