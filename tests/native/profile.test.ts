/** What the device thread counts of its ops, through the worker to who asks. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEngineClient, type EngineClient } from "../../engine/engine-client.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { makeRequest } from "../support/scheduler-world.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

let folder: string;
let client: EngineClient;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kvengine-profile-"));
  const modelPath = join(folder, "tiny.gguf");
  await writeTinyModel(modelPath, { dtype: "Q4_1" });
  client = await createEngineClient({ ...ENGINE_CONFIG, modelPath });
});

afterAll(async () => {
  await client.shutdown(0);
  await rm(folder, { recursive: true, force: true });
});

async function tokensOf(id: number): Promise<number[]> {
  const tokens: number[] = [];
  const request = makeRequest(id, [60, 61, 62], { maxTokens: 5 });
  for await (const event of client.generate(request)) tokens.push(...event.tokenIds);
  return tokens;
}

test("ops are counted while somebody asks, and tokens are the same", async () => {
  const before = await tokensOf(1);
  expect(await client.takeProfile(true)).toEqual({ steps: 0, seconds: 0, gaps: 0, ops: [] });
  expect(await tokensOf(2)).toEqual(before);
  const { steps, seconds, gaps, ops } = await client.takeProfile(false);
  expect(steps).toBeGreaterThanOrEqual(5);
  expect(ops.reduce((sum, op) => sum + op.seconds, 0)).toBeLessThanOrEqual(seconds);
  expect(gaps).toBeGreaterThanOrEqual(0);

  const head = ops.find(({ labels }) => labels.includes("output"));
  expect(head?.ops).toEqual(["addRmsNorm", "linear", "sample"]);
  expect(head?.calls).toBeGreaterThanOrEqual(5);
  expect(head?.bytes).toBeGreaterThan(0);
  expect(ops.map(({ labels }) => labels)).toContainEqual(["blk.0.attn"]);
  for (const op of ops) {
    expect(op.labels).toHaveLength(op.ops.length);
    expect(op.waited).toBeLessThanOrEqual(op.seconds);
  }

  expect(await tokensOf(3)).toEqual(before);
  expect((await client.takeProfile(false)).ops).toEqual([]);
});
