import { expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

test("the demo shows each place that KV comes from, has one answer throughout, and leaves nothing behind", async () => {
  const folder = join(temporaryFolder(), "demo");
  mkdirSync(folder);
  const env = { ...(process.env as Record<string, string>), TMPDIR: folder };
  const { code, stdout, stderr } = await runCli(["demo", defaultModelPath()], { env });
  expect([code, stderr]).toEqual([0, ""]);
  const acts = [...stdout.matchAll(/^(\w+) +.*\n((?: {9}.*\n)+)/gm)].map(([, name, lines]) => [
    name,
    (lines ?? "").split("\n").filter((line) => line !== "").length,
  ]);
  expect(acts).toEqual([
    ["cold", 1],
    ["hit", 1],
    ["evict", 2],
    ["restore", 1],
    ["restart", 1],
  ]);
  const receipts = [...stdout.matchAll(/ms: (.*?)(?:;|$)/gm)].map(([, receipt]) => receipt);
  expect(receipts.map((receipt) => receipt?.replace(/^.*[\d,]+ (?=found|from)/, ""))).toEqual([
    "2,048 computed",
    "found on the device, 16 computed",
    "2,048 computed",
    "2,048 computed",
    expect.stringContaining("from the host's memory, 16 computed"),
    "from the disk, 16 computed",
  ]);
  expect(stdout).toContain("four answers are the same");
  expect(readdirSync(folder)).toEqual([]);
}, 120_000);
