import { describe, expect, test } from "bun:test";
import type { CacheState } from "../../../cli/bench/types.ts";
import { REAL_CLOCK } from "../../../cli/bench/load/clock.ts";
import { PATIENCE } from "../../../cli/bench/http/failure.ts";
import { createRunOnce } from "../../../cli/bench/run-once.ts";
import type { RunObserver, RunOptions } from "../../../cli/bench/run-options.ts";
import type { Side } from "../../../cli/bench/servers/side.ts";
import { serveHttp } from "../../../engine/server/listen.ts";
import { planWith, shapedWorkload, singleTurns } from "../../support/bench-workload.ts";
import { say } from "../../support/fake-engine-client.ts";
import { thrownBy } from "../../support/thrown.ts";
import { testApp, type TestApp } from "../server/test-app.ts";

const OPTIONS: RunOptions = {
  model: "",
  headers: {},
  extraBody: { temperature: 0 },
  countChunks: true,
  patience: PATIENCE,
  readyTimeoutMs: 60_000,
  numWarmups: 0,
  cacheState: "uncontrolled",
};

interface Served extends TestApp, AsyncDisposable {
  readonly side: Side;
}

/** kvengine's own HTTP side on a socket, over a fake engine. */
function served(): Served {
  const app = testApp();
  app.client.script = say("abcdefgh", { cachedTokens: 2 });
  const server = serveHttp(app.app, { host: "127.0.0.1", port: 0 });
  return {
    ...app,
    side: { label: "a", server: { kind: "running", baseUrl: server.url } },
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** Prompts that the engine was asked to compute, in order. */
function prompts({ client }: TestApp): number[][] {
  return client.sequences.map(({ request }) => [...request.promptTokenIds]);
}

describe("a run", () => {
  test("says what was run, against what, and what became of every request", async () => {
    await using app = served();
    const workload = singleTurns(5);
    const plan = planWith({ maxConcurrency: 2 });
    const run = await createRunOnce(OPTIONS)(app.side, workload, plan, REAL_CLOCK);
    expect(run).toMatchObject({
      label: "a",
      workload: { name: "shaped", seed: 0, parameters: {} },
      load: plan,
      target: { server: "kvengine 0.1.0", model: "tiny" },
      cacheState: "uncontrolled",
      warnings: [],
    });
    expect(run.target.command).toBeUndefined();
    expect(run.stopped).toBeUndefined();
    expect(run.startedAt).toMatch(/^\d{4}-\d\d-\d\dT/);
    expect(run.records.map(({ outcome, text }) => [outcome, text])).toEqual(
      Array.from({ length: 5 }, () => ["ok", "abcd"]),
    );
    const [record] = run.records;
    expect(record).toMatchObject({
      promptTokens: 8,
      outputTokens: 4,
      countedBy: "usage",
      cachedTokens: 2,
      status: 200,
    });
    expect(record?.chunks.map(({ numTokens }) => numTokens)).toEqual([1, 1, 1, 1]);
    expect(run.client.cpuSeconds).toBeGreaterThan(0);
  });

  test("has what the server's counters say of it", async () => {
    await using app = served();
    const before = createRunOnce(OPTIONS);
    await before(app.side, singleTurns(2), planWith(), REAL_CLOCK);
    const run = await before(app.side, singleTurns(3), planWith(), REAL_CLOCK);
    expect(run.counters['vllm:request_success_total{finished_reason="length"}']).toBe(3);
  });

  test("warms up with the first prompt turned round, which counts for nothing", async () => {
    await using app = served();
    const options = { ...OPTIONS, numWarmups: 2 };
    const run = await createRunOnce(options)(app.side, singleTurns(1), planWith(), REAL_CLOCK);
    expect(run.records.length).toBe(1);
    const [first = [], second = [], third = []] = prompts(app);
    expect([first.toReversed(), second.toReversed()]).toEqual([third, third]);
  });

  test("has the cache in the state that is asked for", async () => {
    const states: readonly [RunOptions["cacheState"], CacheState, number, number][] = [
      ["cold", "cold", 1, 3],
      ["warm", "warm", 0, 6],
      ["uncontrolled", "uncontrolled", 0, 3],
      // The server was there before: what is in it is somebody's.
      ["auto", "uncontrolled", 0, 3],
    ];
    for (const [cacheState, state, resets, sequences] of states) {
      await using app = served();
      const workload = shapedWorkload({ turns: [2, 1] });
      const options = { ...OPTIONS, cacheState };
      const run = await createRunOnce(options)(app.side, workload, planWith(), REAL_CLOCK);
      expect([run.cacheState, app.client.resets, app.client.sequences.length]).toEqual([
        state,
        resets,
        sequences,
      ]);
    }
  });

  test("is told of while it goes on", async () => {
    await using app = served();
    const told: string[] = [];
    const observer: RunObserver = {
      begin: (label, numRequests) => told.push(`begin ${label} ${numRequests}`),
      sent: () => told.push("sent"),
      ended: ({ conversation }) => told.push(`ended ${conversation}`),
      end: () => told.push("end"),
    };
    const options = { ...OPTIONS, observer, numWarmups: 1 };
    const plan = planWith({ maxConcurrency: 1 });
    await createRunOnce(options)(app.side, singleTurns(2), plan, REAL_CLOCK);
    expect(told).toEqual(["begin a 2", "sent", "ended c0", "sent", "ended c1", "end"]);
  });

  test("says what is odd, once for each kind", async () => {
    await using app = served();
    app.client.script = say("ab");
    const run = await createRunOnce(OPTIONS)(app.side, singleTurns(3), planWith(), REAL_CLOCK);
    expect(run.warnings).toEqual([
      "3 of 3 requests: fewer tokens than asked with ignore_eos: 3 of 4",
    ]);
  });

  test("says how many turns were not sent because the one before them failed", async () => {
    await using app = served();
    app.client.info = { ...app.client.info, maxModelLen: 4 };
    const workload = shapedWorkload({ turns: [3, 1] });
    const run = await createRunOnce(OPTIONS)(app.side, workload, planWith(), REAL_CLOCK);
    expect(run.records.map(({ outcome, status }) => [outcome, status])).toEqual([
      ["error", 400],
      ["error", 400],
    ]);
    expect(run.warnings).toEqual(["2 turns were not sent, as the one before them failed"]);
  });

  test("that is interrupted before it begins has no records", async () => {
    await using app = served();
    const options = { ...OPTIONS, signal: AbortSignal.abort() };
    const run = await createRunOnce(options)(app.side, singleTurns(2), planWith(), REAL_CLOCK);
    expect([run.stopped, run.records]).toEqual(["interrupted", []]);
  });

  test("against a server of which a cold cache cannot be had is refused before anything is sent", async () => {
    let posts = 0;
    const server = Bun.serve({
      port: 0,
      fetch: (request) => {
        posts += request.method === "POST" ? 1 : 0;
        return Response.json({ data: [{ id: "m", owned_by: "someone" }] });
      },
    });
    const side: Side = { label: "a", server: { kind: "running", baseUrl: server.url.origin } };
    const options = { ...OPTIONS, cacheState: "cold" } as const;
    const run = (): unknown => createRunOnce(options)(side, singleTurns(1), planWith(), REAL_CLOCK);
    expect((await thrownBy(run)).code).toBe("unsupported");
    expect(posts).toBe(0);
    await server.stop(true);
  });
});
