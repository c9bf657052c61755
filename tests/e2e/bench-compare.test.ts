import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();

/** A file of runs that took turns with those of the other side; throughput and TPOT as given. */
async function resultFile(name: string, side: 0 | 1, tpots: readonly number[]): Promise<string> {
  const path = join(folder, name);
  const runs = tpots.map((tpot, round) => ({
    label: name,
    started_at: new Date(1000 * (2 * round + (round % 2 === 0 ? side : 1 - side))).toISOString(),
    duration: 10,
    completed: 100,
    failed: 0,
    output_throughput: 1000 / tpot,
    p99_tpot_ms: tpot,
  }));
  await Bun.write(path, JSON.stringify({ runs }));
  return path;
}

const base = await resultFile("base", 0, [10, 10.1, 9.9, 10]);
const same = await resultFile("same", 1, [10.1, 9.9, 10, 10]);
const slow = await resultFile("slow", 1, [11, 11.1, 10.9, 11]);

async function compare(...args: string[]): Promise<Awaited<ReturnType<typeof runCli>>> {
  return runCli(["bench", "compare", ...args]);
}

describe("bench compare", () => {
  test("prints ratios with intervals and verdicts, and exits with 0", async () => {
    const result = await compare(base, slow);
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toMatch(/tpot_p99 +ms +10\.00 +11\.00 +1\.100 .*a is better/);
    expect(result.stdout).toContain("runs in turns, compared pair by pair");
  });

  test("says the same in the other order", async () => {
    const result = await compare(slow, base);
    expect(result.stdout).toMatch(/tpot_p99 +ms +11\.00 +10\.00 +0\.909 .*b is better/);
  });

  test("exits with 1 where --fail-if holds, and says what was found", async () => {
    const result = await compare(base, slow, "--fail-if", "tpot_p99>1.05x");
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("--fail-if tpot_p99>1.05x: tpot_p99 is 1.100x");
  });

  test("exits with 0 where what --fail-if asks for is no difference", async () => {
    const result = await compare(base, same, "--fail-if", "tpot_p99>1.0001x,tpot_p99<0.9999x");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toContain("no difference");
  });

  test("prints JSON alone, and writes the reports that are asked for", async () => {
    const [json, html] = [join(folder, "out.json"), join(folder, "out.html")];
    const result = await compare(base, slow, "--json", "--report", `${json},${html}`);
    expect(result.code).toBe(0);
    expect(await Bun.file(json).text()).toBe(result.stdout);
    expect(JSON.parse(result.stdout)).toMatchObject({
      comparisons: [{ a: `base (${base})`, b: `slow (${slow})`, design: "interleaved" }],
    });
    expect(await Bun.file(html).text()).toContain("<svg");
  });

  test("refuses what it cannot use before it prints anything, with exit code 2", async () => {
    const bad = join(folder, "bad.json");
    await Bun.write(bad, "{");
    for (const [args, says] of [
      [[base, join(folder, "none.json")], "cannot be read"],
      [[base, bad], `${bad}: is no JSON`],
      [[base], "has one side only"],
      [[base, slow, "--fail-if", "topt_p99>1x"], "`topt_p99` is no metric"],
      [[base, slow, "--fail-if", "ttft_p99>1x"], "ttft_p99 was not measured"],
      [[base, slow, "--report", "out.jsonl"], "is of no format"],
      [[], "<a> is missing"],
    ] as const) {
      const result = await compare(...args);
      expect([result.code, result.stdout]).toEqual([2, ""]);
      expect(result.stderr).toContain(says);
    }
  });
});
