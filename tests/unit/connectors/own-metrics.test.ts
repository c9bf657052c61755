import { describe, expect, test } from "bun:test";
import { OwnMetrics } from "../../../engine/connectors/own-metrics.ts";
import { SampleStore } from "../../../engine/connectors/sample-store.ts";
import { createMetrics } from "../../../engine/metrics.ts";
import type { ConnectorSample } from "../../../engine/request.ts";
import { FakeEngineClient, NO_STATS } from "../../support/fake-engine-client.ts";

class World {
  readonly warned: string[] = [];
  readonly store: SampleStore = new SampleStore();
  readonly metrics: OwnMetrics = this.of("mine");

  of(connector: string): OwnMetrics {
    return new OwnMetrics(connector, this.store, (line) => this.warned.push(line));
  }

  /** `name{label=value} number` of what has changed. */
  taken(): string[] {
    return this.store.take().map(({ name, labels, value }) => {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}=${text}`);
      return `${name}{${pairs.join()}} ${value}`;
    });
  }
}

describe("a connector's metrics", () => {
  test("are counters and gauges with its name for a label", () => {
    const { metrics, store } = new World();
    metrics.count("hits");
    metrics.count("hits", 2);
    metrics.set("entries", -1.5, { tier: "disk" });
    expect(store.take()).toEqual([
      {
        name: "kvengine_connector_hits_total",
        type: "counter",
        labels: { connector: "mine" },
        value: 3,
      },
      {
        name: "kvengine_connector_entries",
        type: "gauge",
        labels: { connector: "mine", tier: "disk" },
        value: -1.5,
      },
    ]);
  });

  test("are sent when they have changed, with the value of now", () => {
    const world = new World();
    world.metrics.count("hits");
    world.metrics.set("entries", 0);
    expect(world.taken()).toEqual([
      "kvengine_connector_hits_total{connector=mine} 1",
      "kvengine_connector_entries{connector=mine} 0",
    ]);
    world.metrics.set("entries", 0);
    expect(world.taken()).toEqual([]);
    world.metrics.count("hits", 4);
    world.of("other").count("hits");
    expect(world.taken()).toEqual([
      "kvengine_connector_hits_total{connector=mine} 5",
      "kvengine_connector_hits_total{connector=other} 1",
    ]);
  });

  test("are one series whatever the order of their labels", () => {
    const world = new World();
    world.metrics.count("hits", 1, { a: "1", b: "2" });
    world.metrics.count("hits", 1, { b: "2", a: "1" });
    expect(world.taken()).toEqual(["kvengine_connector_hits_total{connector=mine,a=1,b=2} 2"]);
  });

  const REFUSED: readonly (readonly [what: string, report: (metrics: OwnMetrics) => void])[] = [
    ["a name in capitals", (metrics) => metrics.count("Hits")],
    ["an empty name", (metrics) => metrics.set("", 1)],
    ["a name that is too long", (metrics) => metrics.count("x".repeat(65))],
    ["a name with a newline", (metrics) => metrics.count("a\nb")],
    ["a name that is no text", (metrics) => metrics.count(7 as unknown as string)],
    ["a negative count", (metrics) => metrics.count("hits", -1)],
    ["a count that is no number", (metrics) => metrics.count("hits", Number.NaN)],
    ["an endless count", (metrics) => metrics.count("hits", Number.POSITIVE_INFINITY)],
    ["a gauge that is endless", (metrics) => metrics.set("entries", Number.NEGATIVE_INFINITY)],
    ["a gauge that is text", (metrics) => metrics.set("entries", "1" as unknown as number)],
    ["a gauge with a counter's name", (metrics) => metrics.set("hits_total", 1)],
    [
      "the label that the engine gives",
      (metrics) => metrics.count("hits", 1, { connector: "other" }),
    ],
    ["the label of all series", (metrics) => metrics.count("hits", 1, { model_name: "m" })],
    ["a label's name that is none", (metrics) => metrics.count("hits", 1, { "a-b": "1" })],
    [
      "a label's value that is no text",
      (metrics) => metrics.count("hits", 1, { a: 1 as unknown as string }),
    ],
    [
      "labels that are no object",
      (metrics) => metrics.count("hits", 1, ["a"] as unknown as Record<string, string>),
    ],
    [
      "too many labels",
      (metrics) => metrics.count("hits", 1, { a: "", b: "", c: "", d: "", e: "" }),
    ],
  ];
  for (const [what, report] of REFUSED) {
    test(`are dropped and told of once: ${what}`, () => {
      const world = new World();
      report(world.metrics);
      report(world.metrics);
      expect(world.taken()).toEqual([]);
      expect(world.warned).toHaveLength(1);
      expect(world.warned[0]).toStartWith("the metric ");
      expect(world.warned[0]).not.toContain("\n");
    });
  }

  test("have both ends of every bound", () => {
    const world = new World();
    world.metrics.count("x".repeat(64), 0, { a: "", b: "", c: "", d: "x".repeat(64) });
    expect(world.taken()).toHaveLength(1);
    expect(world.warned).toEqual([]);
  });

  test("are at most 200 series, those that are known go on", () => {
    const world = new World();
    for (let i = 0; i < 300; i++) world.metrics.count("hits", 1, { key: String(i) });
    world.metrics.count("hits", 1, { key: "0" });
    expect(world.taken()).toHaveLength(200);
    expect(world.warned).toEqual([
      'the metric "hits" would be one series too many; allowed are 200 of a connector',
    ]);
    world.of("other").count("hits");
    expect(world.taken()).toHaveLength(1);
  });

  test("keep a hostile label value on one short line", () => {
    const world = new World();
    world.metrics.count("hits", 1, { a: `x"} 1\nforged_total 7 ${"y".repeat(1000)}` });
    const [line] = world.taken();
    expect(line).toContain('a=x"} 1 forged_total 7 yyy');
    expect(line!.length).toBeLessThan(150);
  });
});

describe("/metrics", () => {
  const sample = (value: number, more: Partial<ConnectorSample> = {}): ConnectorSample => ({
    name: "kvengine_connector_hits_total",
    type: "counter",
    labels: { connector: "mine" },
    value,
    ...more,
  });

  test("shows what connectors reported, before and after the start", async () => {
    const client = new FakeEngineClient();
    client.currentStats = { ...NO_STATS, connectors: [sample(2)] };
    const metrics = createMetrics(client, "tiny");
    client.report({
      connectors: [sample(5), sample(1, { labels: { connector: "other", a: 'x"y' } })],
    });
    client.report({ connectors: [] });
    client.report({
      connectors: [sample(0.5, { name: "kvengine:connector_disabled", type: "gauge" })],
    });
    const text = await metrics.text();
    expect(text).toContain("# TYPE kvengine_connector_hits_total counter");
    expect(text).toContain(
      'kvengine_connector_hits_total{connector="mine",model_name="tiny",engine="0"} 5',
    );
    expect(text).toContain(
      'kvengine_connector_hits_total{connector="other",a="x\\"y",model_name="tiny",engine="0"} 1',
    );
    expect(text).toContain("# HELP kvengine:connector_disabled 1 = the connector was disabled");
    expect(text).toContain(
      'kvengine:connector_disabled{connector="mine",model_name="tiny",engine="0"} 0.5',
    );
  });

  test("has nothing about connectors where there are none", async () => {
    const text = await createMetrics(new FakeEngineClient(), "tiny").text();
    expect(text).not.toMatch(/connector[_=]/);
  });
});
