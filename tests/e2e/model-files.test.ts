import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli } from "../support/server.ts";

let folder: string;
let good: Uint8Array;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvengine model files-"));
  good = await Bun.file(defaultModelPath()).bytes();
});

afterAll(() => rmSync(folder, { recursive: true }));

async function fileOf(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await Bun.write(path, bytes);
  return path;
}

/** Starts a server on a file that cannot be served. */
async function refusal(path: string): Promise<string> {
  const { code, stdout, stderr } = await runCli(["serve", path, "--port", "0"]);
  expect(stdout).toBe("");
  expect(code).toBe(1);
  expect(stderr).toStartWith("error: ");
  expect(stderr).not.toContain("this is a bug");
  return stderr;
}

test("a missing model file is named", async () => {
  const path = join(folder, "nowhere.gguf");
  expect(await refusal(path)).toContain("nowhere.gguf");
}, 60_000);

test("an empty model file is named", async () => {
  expect(await refusal(await fileOf("empty.gguf", new Uint8Array(0)))).toContain("empty.gguf");
}, 60_000);

test("a file that is no GGUF is named", async () => {
  expect(
    await refusal(await fileOf("text.gguf", new TextEncoder().encode("x".repeat(5000)))),
  ).toMatch(/GGUF/);
}, 60_000);

test("a file cut off in its header is refused", async () => {
  expect(await refusal(await fileOf("header.gguf", good.subarray(0, 5000)))).toContain(
    "header.gguf",
  );
}, 60_000);

test("a file cut off in its weights is refused", async () => {
  expect(await refusal(await fileOf("weights.gguf", good.subarray(0, good.length >> 1)))).toContain(
    "weights.gguf",
  );
}, 60_000);

test("a corrupt count in the header is refused", async () => {
  const bytes = good.slice();
  bytes.fill(0xff, 8, 16);
  expect(await refusal(await fileOf("count.gguf", bytes))).toContain("count.gguf");
}, 60_000);

test("an alias that does not exist is refused, naming those that do", async () => {
  const { code, stderr } = await runCli(["serve", "smollm2-135n", "--port", "0"]);
  expect(code).not.toBe(0);
  expect(stderr).toContain("smollm2-135m");
}, 60_000);
