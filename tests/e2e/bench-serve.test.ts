import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { runCommand } from "citty";
import { benchServeCommand } from "../../cli/bench/serve/command.ts";
import { benchThroughputCommand } from "../../cli/bench/throughput/command.ts";
import type { BenchOutcome } from "../../cli/bench/parts.ts";
import type { Run } from "../../cli/bench/types.ts";
import { KvEngineError } from "../../engine/errors.ts";
import { smallWorkload, type TestParts, testParts } from "../support/bench-parts.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { startServer } from "../support/server.ts";

const MODEL = defaultModelPath();
const NULL = ["--server-args", "--backend null --max-model-len 256"];
const PROGRAM = join(import.meta.dir, "../support/programs/bench-program.ts");

async function bench(
  args: readonly string[],
  parts: TestParts = testParts(smallWorkload),
): Promise<{ readonly code: unknown; readonly outcome: BenchOutcome }> {
  const { result } = await runCommand(benchServeCommand(parts), {
    rawArgs: [...args, "--log-level", "error"],
  });
  const [outcome] = parts.outcomes;
  if (outcome === undefined) throw new Error("nothing was reported");
  return { code: result, outcome };
}

function outcomes({ records }: Run): string[] {
  return [...new Set(records.map(({ outcome, outputTokens }) => `${outcome} ${outputTokens}`))];
}

describe("bench serve", () => {
  test("starts kvengine, measures it cold, and stops it", async () => {
    const { code, outcome } = await bench([MODEL, ...NULL]);
    const [run] = outcome.runs;
    expect([code, outcome.runs.length, outcome.sides]).toEqual([0, 1, []]);
    expect(run).toMatchObject({ label: "kvengine", cacheState: "cold", warnings: [] });
    expect(run?.target.command?.slice(-2)).toEqual(["--max-model-len", "256"]);
    expect(run === undefined ? [] : outcomes(run)).toEqual(["ok 5"]);
    expect(run?.counters["vllm:prompt_tokens_total"]).toBe(48);
    const gone = await fetch(`${run?.target.baseUrl}/health`).catch(() => "gone");
    expect(gone).toBe("gone");
  }, 60_000);

  test("measures a server that runs, and leaves it running", async () => {
    await using server = await startServer(["--backend", "null"]);
    const { outcome } = await bench([MODEL, "--base-url", `${server.url}/v1`]);
    const [run] = outcome.runs;
    expect(run).toMatchObject({ label: "server", cacheState: "uncontrolled" });
    expect(run === undefined ? [] : outcomes(run)).toEqual(["ok 5"]);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  }, 60_000);

  test("runs sides in turn, each on a server of its own", async () => {
    const sides = ["--ab", "a: --backend null", "--ab", "b: --backend null --max-num-seqs 2"];
    const { outcome } = await bench([MODEL, ...sides, "--ab-rounds", "1", "--ab-warmups", "0"]);
    expect(outcome.sides).toEqual(["a", "b"]);
    expect(outcome.runs.map(({ label, cacheState }) => [label, cacheState])).toEqual([
      ["a", "cold"],
      ["b", "cold"],
    ]);
    expect(outcome.runs.flatMap(outcomes)).toEqual(["ok 5", "ok 5"]);
  }, 60_000);

  test("searches for a rate on one server, and reports the best run", async () => {
    const search = ["--slo-search", "ttft:60000", "--slo-probe-time", "1"];
    const rates = ["--request-rate", "400", "--slo-max-rate", "800"];
    const { outcome } = await bench([MODEL, ...NULL, ...search, ...rates]);
    const [run] = outcome.runs;
    expect([outcome.runs.length, run?.load.requestRate]).toEqual([1, 800]);
    expect(run?.records.length).toBe(800);
  }, 60_000);

  test("keeps what was measured when it is interrupted, and stops its server", async () => {
    const child = Bun.spawn([process.execPath, PROGRAM, MODEL, "--server-args", "--threads 1"], {
      stdout: "pipe",
      stderr: "pipe",
    });
    let said = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said === "running\n") child.kill("SIGINT");
    }
    const [outcome] = JSON.parse(said.slice("running\n".length)) as BenchOutcome[];
    const [run] = outcome?.runs ?? [];
    expect([await child.exited, run?.stopped]).toEqual([130, "interrupted"]);
    expect(run?.records.map(({ outcome: end }) => end === "ok")).toEqual([true, false]);
    expect(run?.records[1]?.error).toBe("stopped: interrupted");
    const gone = await fetch(`${run?.target.baseUrl}/health`).catch(() => "gone");
    expect(gone).toBe("gone");
  }, 60_000);

  test("says what is wrong with its flags before it starts anything", async () => {
    const cases = [
      [["--ab", "a:"], "--ab"],
      [["--base-url", "nowhere"], "--base-url"],
      [["--extra-body", "{"], "--extra-body"],
      [["--slo-search", "itl:1"], "--slo-search"],
      [["--ramp-up-start-rps", "1"], "--ramp-up-end-rps"],
      [["--ab", "a:", "--ab", "b:", "--slo-search", "ttft:1"], "--slo-search"],
    ] as const;
    for (const [flags, subject] of cases) {
      const error = await bench([MODEL, ...flags]).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(KvEngineError);
      expect([(error as KvEngineError).code, (error as KvEngineError).subject]).toEqual([
        "bad_config",
        subject,
      ]);
    }
  });

  test("ends with 1 when no request was answered", async () => {
    const { code, outcome } = await bench([MODEL, "--server-args", "--max-model-len 8"]);
    expect([code, outcome.runs[0]?.records[0]?.status]).toEqual([1, 400]);
  }, 60_000);

  test("does not search for a rate of what has times of its own", async () => {
    const timed = testParts(() => {
      const workload = smallWorkload();
      const conversations = workload.conversations.map(({ id, turns }) => ({ id, turns, at: 5 }));
      return { ...workload, conversations };
    });
    const args = [MODEL, ...NULL, "--slo-search", "ttft:1"];
    const error = await bench(args, timed).catch((thrown: unknown) => thrown);
    expect((error as KvEngineError).hint).toBe("use --no-self-timed");
  }, 60_000);

  test("shows the end of what a server said that does not start", async () => {
    const error = await bench([MODEL, "--server-args", "--port banana"]).catch((e: unknown) => e);
    expect((error as KvEngineError).message).toContain("--port is given twice");
  }, 60_000);
});

describe("bench throughput", () => {
  test("measures the engine in this process", async () => {
    const parts = testParts(smallWorkload);
    const { result } = await runCommand(benchThroughputCommand(parts), {
      rawArgs: [MODEL, "--backend", "null", "--num-warmups", "2"],
    });
    const [run] = parts.outcomes[0]?.runs ?? [];
    expect([result, run?.cacheState, run?.target.baseUrl]).toEqual([0, "cold", "this process"]);
    expect(run === undefined ? [] : outcomes(run)).toEqual(["ok 5"]);
    expect(run?.records.every(({ chunks }) => chunks.length === 5)).toBe(true);
  }, 60_000);
});
