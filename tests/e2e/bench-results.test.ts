import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultModelPath } from "../support/default-model.ts";
import { type Finished, runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const page = join(folder, "new", "RESULTS.md");
const parts = join(folder, "parts");

function bench(...args: string[]): Promise<Finished> {
  const places = ["--results-page", page, "--parts-dir", parts];
  const flags = ["--backend", "null", "--ab-rounds", "1", ...places];
  return runCli(["bench", "results", defaultModelPath(), ...flags, ...args]);
}

test("bench results writes what there is when its time is over, goes on, and measures nothing twice", async () => {
  const over = await bench("--time-limit", "0.000001");
  expect([over.code, over.stderr]).toEqual([1, expect.stringContaining("not measured yet")]);
  expect(readFileSync(page, "utf8")).toContain("Not measured yet: engines without HTTP; Served:");

  const whole = await bench();
  expect(whole.code).toBe(0);
  const text = readFileSync(page, "utf8");
  expect(text).not.toContain("Not measured yet");
  for (const title of ["## Engines without HTTP", "| pp512 |", "## Served: chats that come back"])
    expect(text).toContain(title);
  expect(text).not.toContain(folder);
  expect(readdirSync(parts).length).toBe(6);

  const again = await bench();
  expect([again.code, again.stderr]).toEqual([0, expect.not.stringContaining("round")]);
  expect(readFileSync(page, "utf8")).toBe(text);
}, 180_000);

test("bench results refuses a peer that has no place on the page", async () => {
  const result = await bench("--peer", "vllm=./vllm");
  expect([result.code, result.stderr]).toEqual([2, expect.stringContaining("llama-server")]);
});
