import { beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defaultModelPath } from "../support/default-model.ts";
import { type Finished, runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const tiny = join(folder, "tiny.gguf");
beforeAll(() => writeTinyModel(tiny, { dtype: "Q4_1" }));

function bench(model: string, ...args: string[]): Promise<Finished> {
  return runCli(["bench", "engine", model, ...args]);
}

interface Row {
  readonly test: string;
  readonly avg_ts: number;
  readonly stddev_ts: number;
  readonly samples_ns: readonly number[];
  readonly [field: string]: unknown;
}

/** The rows of `--json` or `-o jsonl`. */
function rowsOf({ code, stdout, stderr }: Finished): Row[] {
  expect([code, stderr.includes("error")]).toEqual([0, false]);
  return (JSON.parse(stdout) as { results: Row[] }).results;
}

describe("bench engine", () => {
  test("prints llama-bench's fields as JSON", async () => {
    const rows = rowsOf(
      await bench(defaultModelPath(), "-p", "8,16", "-n", "4", "-r", "2", "--json"),
    );
    expect(rows.map((one) => [one["n_prompt"], one["n_gen"]])).toEqual([
      [8, 0],
      [16, 0],
      [0, 4],
    ]);
    for (const one of rows) {
      expect(one.avg_ts).toBeGreaterThan(0);
      expect(one.stddev_ts).toBeGreaterThanOrEqual(0);
      expect(one["samples_ts"]).toHaveLength(2);
    }
  }, 60_000);

  test("prints a table", async () => {
    const result = await bench(tiny, "-p", "8", "-n", "0", "-r", "1");
    expect(result.stdout).toMatch(/ pp8 +\d+\.\d\d ± 0\.00\n/);
  }, 60_000);

  test("measures pairs, depths and sequences side by side, with KV that is there exactly where the name says so", async () => {
    const flags = ["-p", "40", "-n", "5", "-pg", "20,5", "-d", "0,32,64", "-r", "2"];
    const parallel = ["-npp", "40", "-ntg", "3", "-npl", "1-4*2"];
    const rows = rowsOf(await bench(tiny, ...flags, ...parallel, "-o", "json"));
    expect(rows.map((row) => row.test)).toEqual([
      ...["pp40", "tg5", "pp20+tg5", "pp40 @ d32", "tg5 @ d32", "pp20+tg5 @ d32"],
      ...["pp40 @ d64", "tg5 @ d64", "pp20+tg5 @ d64"],
      ...["pp40 x1", "tg3 x1 @ d40", "pp40+tg3 x1", "pp40 x2", "tg3 x2 @ d40", "pp40+tg3 x2"],
      ...["pp40 x4", "tg3 x4 @ d40", "pp40+tg3 x4"],
    ]);
    expect(rows.every(({ samples_ns }) => samples_ns.length === 2)).toBe(true);
    expect(rows.every(({ samples_ns }) => samples_ns.every((ns) => ns > 0))).toBe(true);
  }, 60_000);

  test("shares a prompt between sequences side by side", async () => {
    const rows = rowsOf(
      await bench(
        tiny,
        "-p",
        "0",
        "-n",
        "0",
        "-npp",
        "48",
        "-ntg",
        "3",
        "-npl",
        "40",
        "-pps",
        "-r",
        "1",
        "--json",
      ),
    );
    expect(rows.map((row) => [row.test, row["n_parallel"], row["shared_prompt"]])).toEqual([
      ["pp48 x40 shared", 40, true],
      ["tg3 x40 shared @ d48", 40, true],
      ["pp48+tg3 x40 shared", 40, true],
    ]);
  }, 60_000);

  test("measures the machine's limits and each test's share", async () => {
    const result = await bench(tiny, "-p", "64", "-n", "4", "-r", "1", "--limits", "-o", "json");
    for (const row of rowsOf(result)) {
      const { bound, share } = row["limit"] as { bound: string[]; share: number };
      expect(["read", "int8"]).toContain(bound[0]!);
      expect(share).toBeGreaterThan(0);
    }
    const alone = await bench(tiny, "-p", "0", "-n", "0", "--limits");
    expect(alone.code).toBe(0);
    expect(alone.stdout).toMatch(/^What the machine .*\n  limit .*\n  reading .* GB\/s\n/);
    expect(alone.stdout).not.toContain("tokens/s");
  }, 60_000);

  test("refuses what cannot be measured, before it is", async () => {
    const results = [
      [["-p", "0", "-n", "0"], "there is nothing to measure"],
      [["-p", "8", "-d", "33"], "use 32 or 48"],
      [["-p", "600"], "needs sequences of 601 tokens; at most 512 fit"],
      [["-p", "4-2"], "`4-2` is not allowed"],
      [["-p", "8", "-npl", "4", "--no-enable-prefix-caching"], "prefix cache, which is off"],
      [["-p", "8", "--limits", "--backend", "null"], "has no limits to measure"],
      [["-p", "8", "--peer", "vllm=/opt"], "`vllm=/opt` is not allowed"],
    ] as const;
    for (const [flags, says] of results) {
      const result = await bench(tiny, ...flags);
      expect([result.code, result.stdout, result.stderr]).toEqual([
        2,
        "",
        expect.stringContaining(says),
      ]);
    }
  }, 60_000);
});

describe("bench engine --peer", () => {
  const vectors = join(import.meta.dir, "../unit/bench/vectors");
  const flags = ["-p", "16,32", "-n", "4", "-pg", "16,4", "-d", "0,32"];

  function program(name: string, path: string, script: string): void {
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(path, name), 0o755);
  }

  test("measures both sides in each round and compares with the peer's better setting", async () => {
    const path = join(folder, "peer");
    const calls = join(folder, "calls");
    const record = `echo "$*" >> '${calls}'`;
    program("llama-bench", path, `${record}\ncat '${vectors}/llama-bench.json'`);
    program("llama-batched-bench", path, `${record}\ncat '${vectors}/llama-batched-bench.txt'`);
    const parallel = ["-npp", "16", "-ntg", "4", "-npl", "1,2", "-r", "2", "--json"];
    const rows = rowsOf(await bench(tiny, ...flags, ...parallel, "--peer", `llama.cpp=${path}`));
    expect(rows).toHaveLength(8 + 6);
    for (const row of rows) {
      const peer = row["peer"] as {
        samples_ts: number[];
        avg_ts: number;
        ratio: number;
      };
      expect([row.samples_ns.length, peer.samples_ts.length]).toEqual([2, 2]);
      expect(peer.ratio).toBeGreaterThan(0);
    }
    expect(rows[0]?.["peer"]).toMatchObject({ avg_ts: 44.117026 });
    // Two programs at two settings in two rounds.
    const lines = (await Bun.file(calls).text()).trimEnd().split("\n");
    expect(lines).toHaveLength(8);
    expect(lines.filter((line) => line.endsWith("-fa 1"))).toHaveLength(4);
  }, 60_000);

  test("that fails or prints something else ends the bench with what it said", async () => {
    const failing = join(folder, "failing");
    program("llama-bench", failing, "echo model is broken >&2; exit 3");
    const result = await bench(tiny, "-p", "8", "-n", "0", "--peer", `llama.cpp=${failing}`);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("llama-bench ended with 3: model is broken");
    program("llama-bench", failing, "echo usage");
    const other = await bench(tiny, "-p", "8", "-n", "0", "--peer", `llama.cpp=${failing}`);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("what is no JSON")]);
  }, 60_000);
});
