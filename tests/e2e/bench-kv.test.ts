import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type Finished, runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const model = join(temporaryFolder(), "tiny.gguf");
beforeAll(() => writeTinyModel(model));

function bench(...args: string[]): Promise<Finished> {
  const workload = ["--documents", "6", "--document-len", "64", "--answer-len", "4"];
  return runCli(["bench", "kv", model, ...workload, "--question-len", "8", ...args]);
}

interface Side {
  readonly name: string;
  readonly runs: readonly Readonly<Record<string, number>>[];
  readonly speed_up: null | { readonly ratio: number };
}

describe("bench kv", () => {
  test("compares without a prefix cache and with one of half the working set, which evicts", async () => {
    const result = await bench("-r", "2", "--json");
    expect([result.code, result.stderr]).toEqual([0, expect.stringContaining("24 blocks")]);
    const { sides, refusals } = JSON.parse(result.stdout) as { sides: Side[]; refusals: string[] };
    expect(refusals).toEqual([]);
    const [off, device] = sides;
    expect([off?.name, device?.name, off?.runs.length, device?.runs.length]).toEqual([
      ...["off", "device"],
      ...[2, 2],
    ]);
    for (const run of [...off!.runs, ...device!.runs]) {
      expect(run).toMatchObject({ num_blocks: 12, prompt_tokens: 18 * 72, output_tokens: 18 * 4 });
      expect(run["cpu_seconds_per_token"]).toBeGreaterThan(0);
    }
    expect(off?.runs.map((run) => run["evicted_blocks"])).toEqual([0, 0]);
    expect(device?.runs.every((run) => run["evicted_blocks"]! > 0)).toBe(true);
    expect(device?.speed_up?.ratio).toBeGreaterThan(0);
  }, 60_000);

  test("a cache that holds all finds all documents again", async () => {
    const sides = ["--side", "few:", "--side", "many: --num-gpu-blocks-override 200"];
    const result = await bench("-r", "1", "-o", "jsonl", ...sides);
    const [few, many] = result.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, number | string>);
    expect([few?.["side"], many?.["side"]]).toEqual(["few", "many"]);
    expect(many).toMatchObject({ num_blocks: 199, evicted_blocks: 0 });
    expect(many).toMatchObject({
      prompt_tokens_cached: 12 * 64,
      prompt_tokens_computed: 6 * 64 + 18 * 8,
    });
    expect(few?.["prompt_tokens_cached"]).toBe(0);
  }, 60_000);

  test("gives no verdict, and fails, when nothing was evicted", async () => {
    const result = await bench("-r", "1", "--num-gpu-blocks-override", "200");
    expect(result.code).toBe(1);
    expect(result.stdout).toContain("No verdict: nothing was evicted: 24 blocks come again");
  }, 60_000);

  test("refuses wrong sides before it looks for the model", async () => {
    const result = await runCli([
      "bench",
      "kv",
      "nowhere.gguf",
      "--side",
      "a: --port 1",
      "--side",
      "b:",
    ]);
    expect([result.code, result.stderr]).toEqual([
      2,
      expect.stringContaining("unknown flag `--port`"),
    ]);
  });
});
