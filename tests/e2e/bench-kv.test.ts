import { beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Finished, runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const model = join(temporaryFolder(), "tiny.gguf");
beforeAll(() => writeTinyModel(model));

/** Six documents of 4 blocks, three questions about each. */
function bench(...args: string[]): Promise<Finished> {
  const workload = ["num-documents=6", "document-len=64", "question-len=8", "output-len=4"];
  const flags = workload.map((flag) => `--long-document-${flag}`);
  const once = ["--max-concurrency", "1", "--ab-warmups", "0"];
  return runCli(["bench", "kv", model, ...flags, ...once, ...args]);
}

interface Report {
  readonly runs: readonly Readonly<Record<string, unknown>>[];
  readonly comparisons: readonly { readonly metrics: readonly unknown[] }[];
  readonly kv: {
    readonly workingSet: number;
    readonly sides: readonly Readonly<Record<string, unknown>>[];
    readonly refusals: readonly string[];
  };
}

describe("bench kv", () => {
  test("compares without a prefix cache and with one of half the working set, which evicts", async () => {
    const result = await bench("--ab-rounds", "2", "--json");
    expect([result.code, result.stderr]).toEqual([0, expect.stringContaining("24 blocks")]);
    const { runs, comparisons, kv } = JSON.parse(result.stdout) as Report;
    expect(runs.map(({ label }) => label)).toEqual(["off", "device", "device", "off"]);
    for (const run of runs)
      expect(run).toMatchObject({
        ...{ completed: 18, total_input_tokens: 18 * 72, total_output_tokens: 18 * 4 },
        ...{ cache_state: "cold", dataset_name: "long-document" },
      });
    const [off, device] = kv.sides;
    expect([kv.workingSet, kv.refusals]).toEqual([24, []]);
    expect(off).toMatchObject({ name: "off", numBlocks: 12, evictedBlocks: 0 });
    expect(device).toMatchObject({ name: "device", numBlocks: 12 });
    expect(device?.["evictedBlocks"]).toBeGreaterThan(0);
    expect(comparisons[0]?.metrics.length).toBeGreaterThan(5);
  }, 60_000);

  test("finds in host memory what the device had to give away", async () => {
    const sides = ["--side", "off:", "--side", "host: --kv-connector cpu-offload"];
    // So slow that a load costs less on any machine.
    const slow = ["--backend", "reference", "--threads", "1"];
    const result = await bench("--ab-rounds", "1", "--json", ...slow, ...sides);
    const { kv } = JSON.parse(result.stdout) as Report;
    expect([result.code, kv.refusals]).toEqual([0, []]);
    const [off, host] = kv.sides;
    // Each of 18 questions is computed, of the second and third ones about a document the question alone.
    expect(off).toMatchObject({ tokens: { computed: 18 * 72 } });
    expect(host).toMatchObject({ tokens: { computed: 18 * 72 - 12 * 64, host: 12 * 64 } });
  }, 60_000);

  test("gives no verdict, and fails, when nothing was evicted", async () => {
    const sides = ["--side", "few:", "--side", "many: --num-gpu-blocks-override 200"];
    const result = await bench("--ab-rounds", "1", "--num-gpu-blocks-override", "100", ...sides);
    expect(result.code).toBe(1);
    expect(result.stdout).toContain("No verdict: nothing was evicted");
    expect(result.stdout).not.toContain("95 % interval");
  }, 60_000);

  test("refuses wrong sides before it looks for the model", async () => {
    const sides = ["--side", "a: --port 1", "--side", "b:"];
    const result = await runCli(["bench", "kv", "nowhere.gguf", ...sides]);
    expect([result.code, result.stderr]).toEqual([
      2,
      expect.stringContaining("unknown flag `--port`"),
    ]);
  });
});

describe("bench kv, scenarios with a disk", () => {
  test("restart: a server that finds its prompts on the disk, and one that computes them", async () => {
    const folder = temporaryFolder();
    const flags = [
      "--scenario",
      "restart",
      "--restart-prompt-len",
      "128",
      "--kv-disk-path",
      folder,
    ];
    const rounds = ["--restart-num-prompts", "2", "--ab-rounds", "1", "--ab-warmups", "0"];
    const result = await runCli(["bench", "kv", model, ...flags, ...rounds, "--json"]);
    expect([result.code, result.stderr]).toEqual([0, expect.stringContaining("filling")]);
    const { runs, kv } = JSON.parse(result.stdout) as Report;
    expect(runs.map(({ label }) => label)).toEqual(["cold", "restart"]);
    for (const run of runs) expect(run).toMatchObject({ completed: 2, total_input_tokens: 256 });
    const [cold, restart] = kv.sides;
    expect(kv.refusals).toEqual([]);
    expect(cold).toMatchObject({ tokens: { computed: 256 } });
    // The first prompt has all but its last block from the disk. From what that took it may follow that so small a model computes quicker.
    const { computed = 0, disk = 0 } = (restart?.["tokens"] ?? {}) as Partial<
      Record<string, number>
    >;
    expect(disk).toBeGreaterThanOrEqual(112);
    expect(computed + disk).toBe(256);
    expect(readdirSync(folder)).toEqual([]);
  }, 60_000);

  test("slow-disk: more than the host holds comes again, one side alone has a disk, and no verdict hangs on what comes back", async () => {
    const folder = temporaryFolder();
    const flags = ["--scenario", "slow-disk", "--kv-disk-path", folder];
    const result = await bench(...flags, "--ab-rounds", "1", "--json");
    const { kv } = JSON.parse(result.stdout) as Report;
    expect([result.code, kv.refusals]).toEqual([0, []]);
    const [off, disk] = kv.sides;
    expect([off?.["name"], disk?.["name"]]).toEqual(["off", "disk"]);
    expect(disk?.["flags"]).toContain("--kv-disk-link 20000000");
    expect(off?.["tokens"]).not.toHaveProperty("disk");
    expect(readdirSync(folder)).toEqual([]);
    expect(disk?.["evictedBlocks"]).toBeGreaterThan(0);
  }, 60_000);

  test("fits: with and without a disk nothing leaves the device, or there is no verdict", async () => {
    const once = ["--ab-rounds", "1", "--json"];
    const fits = await bench("--scenario", "fits", "--num-gpu-blocks-override", "200", ...once);
    const { kv } = JSON.parse(fits.stdout) as Report;
    expect(fits.code).toBe(0);
    expect(kv.sides.map(({ evictedBlocks }) => evictedBlocks)).toEqual([0, 0]);
    const crowded = await bench("--scenario", "fits", "--num-gpu-blocks-override", "20", ...once);
    expect(crowded.code).toBe(1);
    expect((JSON.parse(crowded.stdout) as Report).kv.refusals[0]).toContain("blocks were evicted");
  }, 60_000);
});
