/** The page, opened in a DOM that is not a browser: its scripts run, with a canvas that draws nothing. */

import { afterEach, describe, expect, test } from "bun:test";
import { Window } from "happy-dom";
import { compareSides } from "../../../cli/bench/ab/comparison.ts";
import { summarize } from "../../../cli/bench/metrics/summary.ts";
import { reportHtml } from "../../../cli/bench/report/html/html.ts";
import {
  distributionPlot,
  plotData,
  type PlotData,
} from "../../../cli/bench/report/html/plot-data.ts";
import { ratioChart } from "../../../cli/bench/report/html/ratio-chart.ts";
import { benchReport } from "../../../cli/bench/report/bench-report.ts";
import type { BenchReport } from "../../../cli/bench/report/report.ts";
import type { Run } from "../../../cli/bench/types.ts";
import { recordOf, runOf, servedRecords } from "../../support/bench-runs.ts";
import { sideInTurns } from "../../support/result-rows.ts";

function served(seed: number, more: Partial<Run> = {}): Run {
  return runOf(servedRecords({ requests: 40, concurrency: 4, seed, pace: 5 }), more);
}

const ONE: BenchReport = benchReport([served(1)], { version: "0.1.0" });

function session(): BenchReport {
  const runs = ["a", "b", "b", "a"].map((label, i) =>
    served(i, { label, startedAt: `2026-01-31T23:0${i}:00.000Z` }),
  );
  return benchReport(runs, { version: "0.1.0" });
}

const open: Window[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((window) => window.happyDOM.close()));
});

/** Fails with what the page's script threw. */
async function load(html: string): Promise<Window> {
  const window = new Window({
    settings: {
      enableJavaScriptEvaluation: true,
      suppressInsecureJavaScriptEnvironmentWarning: true,
    },
  });
  open.push(window);
  const context = doesNothing({ measureText: () => ({ width: 10 }) });
  Object.assign(window.HTMLCanvasElement.prototype, { getContext: () => context });
  Object.assign(window, { Path2D: noPath });
  const errors: string[] = [];
  window.addEventListener("error", (event) => errors.push(String(Reflect.get(event, "message"))));
  window.document.write(html);
  await window.happyDOM.waitUntilComplete();
  expect(errors).toEqual([]);
  return window;
}

/** Called with `new`. */
function noPath(): object {
  return doesNothing({});
}

/** Keeps what is set; what it does not have is a method without effect. */
function doesNothing(own: Record<string, unknown>): object {
  return new Proxy(own, {
    get: (target, key) => Reflect.get(target, key) ?? (() => undefined),
  });
}

function embedded(html: string): PlotData {
  const json = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(html)?.[1] ?? "";
  return JSON.parse(json) as PlotData;
}

describe("the page of a run", () => {
  test("draws a chart in each place, and shows every table", async () => {
    const { document } = await load(reportHtml(ONE));
    const charts = [...document.querySelectorAll("[data-chart]")];
    expect(charts.map((chart) => chart.getAttribute("data-chart"))).toEqual([
      ...["timeline", "tokens", "sources"],
      ...["distribution", "distribution", "distribution", "distribution"],
    ]);
    for (const chart of charts) expect(chart.querySelectorAll("canvas")).toHaveLength(1);
    const titles = [...document.querySelectorAll(".tables h2")].map((one) => one.textContent);
    expect(titles).toContain("Latency, milliseconds");
    expect(titles).toContain("What the words mean, here and elsewhere");
    expect(document.querySelector("title")?.textContent).toBe("kvengine: tiny");
  });

  test("fetches nothing", () => {
    const html = reportHtml(ONE);
    const withoutScripts = html.replaceAll(/<script.*?<\/script>/gs, "");
    expect(withoutScripts).not.toMatch(/\b(src|href)=/);
    expect(withoutScripts).not.toMatch(/@import|url\(/);
    expect(html).not.toMatch(/<script[^>]+src/);
  });

  test("lets no text of a server or a user become markup", async () => {
    const evil = `</script><img src=x onerror=alert(1)>&"'`;
    const record = recordOf(0, [], {
      conversation: evil,
      outcome: "error",
      error: evil,
      status: 500,
    });
    const run = runOf([record, recordOf(0, [5, 9])], {
      label: evil,
      target: { baseUrl: evil, model: evil, server: evil },
      stopped: evil,
    });
    const report = { ...ONE, runs: [{ run, summary: summarize(run) }], metadata: { [evil]: evil } };
    const { document } = await load(reportHtml(report));
    expect(document.querySelectorAll("img")).toHaveLength(0);
    expect(document.querySelector("h1")?.textContent).toBe(`${evil}: ${evil}`);
  });

  test("of a run that sent nothing has no chart of latencies and loads all the same", async () => {
    const run = runOf([]);
    const { document } = await load(
      reportHtml({ ...ONE, runs: [{ run, summary: summarize(run) }] }),
    );
    expect(document.querySelectorAll("[data-chart]")).toHaveLength(3);
  });
});

describe("the page of a session", () => {
  test("shows the ratios, each run's figures, and the chosen run over time", async () => {
    const report = session();
    const { document } = await load(reportHtml(report));
    const metrics = report.comparisons[0]?.metrics.length ?? 0;
    expect(document.querySelectorAll("svg.ratios circle")).toHaveLength(metrics);
    const options = [...document.querySelectorAll("#run option")].map((one) => one.textContent);
    expect(options).toEqual(["1: a", "2: b", "3: b", "4: a"]);
    expect(document.querySelectorAll('[data-chart="runs"] canvas')).toHaveLength(4);
  });

  test("without runs has the ratios and no script", async () => {
    const comparisons = [
      compareSides(
        sideInTurns("a", { p99_ttft_ms: [10, 11] }),
        sideInTurns("b", { p99_ttft_ms: [20, 21] }),
      ),
    ];
    const html = reportHtml({ ...ONE, runs: [], comparisons });
    const { document } = await load(html);
    expect(document.querySelectorAll("svg.ratios circle")).toHaveLength(1);
    expect(html).not.toContain("uPlot");
  });
});

describe("what charts show", () => {
  test("is in the page as JSON, as it was computed", () => {
    expect(embedded(reportHtml(ONE))).toEqual(plotData(ONE.runs));
  });

  test("puts requests that are open together into rows of their own", () => {
    const run = runOf([
      recordOf(1000, [1500], { endedAt: 2000 }),
      recordOf(0, [500], { endedAt: 1500 }),
      recordOf(1500, [], { endedAt: 3000, outcome: "error", status: 0 }),
    ]);
    const { timeline } = plotData([{ run, summary: summarize(run) }]).runs[0] ?? {};
    expect(timeline).toMatchObject({
      sent: [0, 1, 1.5],
      first: [0.5, 1.5, null],
      ended: [1.5, 2, 3],
      lane: [0, 1, 0],
      numLanes: 2,
      whole: [true, true, false],
    });
  });

  test("are tokens a second in buckets that add up to all tokens", () => {
    const run = served(2);
    const { series } = plotData([{ run, summary: summarize(run) }]).runs[0] ?? {};
    const time = series?.time ?? [];
    const seconds = (time[1] ?? 0) - (time[0] ?? 0);
    const tokens = series?.outputTokens.reduce((sum, rate) => sum + rate * seconds, 0);
    const sent = run.records.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
    expect(tokens).toBeCloseTo(sent, 6);
    expect(time.length).toBeLessThanOrEqual(161);
    expect(series?.promptTokens.map(({ source }) => source).toSorted()).toEqual([
      "computed",
      "device",
      "host",
    ]);
  });

  test("are shares that add up to all of a side, up to the largest value of both", () => {
    const plot = distributionPlot("TTFT", [
      { label: "a", values: [1, 2, 3, 4] },
      { label: "b", values: [2, 2, 8] },
    ]);
    expect(plot?.logarithmic).toBe(false);
    expect(plot?.edges[1]).toBeCloseTo(1, 9);
    expect(plot?.edges.at(-1)).toBe(8);
    for (const side of plot?.sides ?? []) {
      const total = side.share.reduce<number>((sum, share) => sum + (share ?? 0), 0);
      expect(total).toBeCloseTo(100, 9);
      expect([side.cumulative[0], side.cumulative.at(-1)]).toEqual([0, 100]);
    }
    expect(plot?.sides[0]?.cumulative[1]).toBe(25);
  });

  test("stretch a long tail on a logarithmic axis, and stand still for one value", () => {
    const tail = distributionPlot("E2EL", [{ label: "a", values: [1, 1, 1, 2, 100] }]);
    expect(tail?.logarithmic).toBe(true);
    const [low = 0, next = 0, after = 0] = tail?.edges ?? [];
    expect(next / low).toBeCloseTo(after / next, 9);
    const one = distributionPlot("E2EL", [{ label: "a", values: [5] }]);
    expect(one?.edges.every((edge, i, edges) => i === 0 || edge > (edges[i - 1] ?? 0))).toBe(true);
    expect(one?.sides[0]?.cumulative.at(-1)).toBe(100);
    expect(distributionPlot("E2EL", [{ label: "a", values: [] }])).toBeUndefined();
  });
});

describe("the drawing of ratios", () => {
  test("is empty without intervals", () => {
    const single = compareSides(
      sideInTurns("a", { p99_ttft_ms: [10] }),
      sideInTurns("b", { p99_ttft_ms: [20] }),
    );
    expect(ratioChart(single)).toBe("");
  });

  test("puts 1 in the middle, and a ratio and its inverse equally far from it", () => {
    const up = { p99_ttft_ms: [20, 21, 20, 22], p99_tpot_ms: [10, 9, 10, 11] };
    const down = { p99_ttft_ms: [10, 9, 10, 11], p99_tpot_ms: [20, 21, 20, 22] };
    const svg = ratioChart(compareSides(sideInTurns("a", up), sideInTurns("b", down)));
    const places = [...svg.matchAll(/cx="([\d.]+)"/g)].map((match) => Number(match[1]));
    const one = Number(/class="one" x1="([\d.]+)"/.exec(svg)?.[1]);
    expect(places).toHaveLength(2);
    expect((places[0] ?? 0) - one).toBeCloseTo(one - (places[1] ?? 0), 0);
    expect(places[0]).toBeLessThan(one);
    const ticks = [...svg.matchAll(/class="(?:tick|one)" x1="([\d.]+)"/g)].map(([, x]) =>
      Number(x),
    );
    expect(one - (ticks[0] ?? 0)).toBeCloseTo((ticks.at(-1) ?? 0) - one, 0);
  });
});
