/**
 * A model with window layers and full ones: several KV groups. What it computes depends neither on how a prompt is cut into
 * steps nor on what is behind the window.
 */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type LoadedModel, loadModel } from "../../engine/models/registry.ts";
import { cpuFeatures } from "../../engine/runner/native.ts";
import { logitsOf } from "../support/logits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TINY, type TinyModelOptions, writeTinyModel } from "../support/tiny-model.ts";

const FLOAT_TOLERANCE = 0.002;
const TOKENS = Array.from({ length: 150 }, (_, i) => (i * 37 + 11) % TINY.vocabSize);
const EVERY = TOKENS.map((_, i) => i);
const ISAS: readonly string[] = [
  "portable",
  ...(cpuFeatures().isa === "portable" ? [] : [cpuFeatures().isa]),
];
const CHUNKS = [[1], [7, 40, 1], [64], [100, 3]] as const;

const folder: string = temporaryFolder();

async function load(name: string, options: TinyModelOptions): Promise<LoadedModel> {
  const path = join(folder, `${name}.gguf`);
  await writeTinyModel(path, { seed: 5, ...options });
  return await loadModel(path);
}

describe("window layers of 24 tokens among full ones", () => {
  test("the reference computes the same whole, in chunks and with blocks gone", async () => {
    const model = await load("reference", { hybrid: true });
    expect(model.groups.map(({ kind }) => kind)).toEqual(["window", "window", "full"]);
    const whole = await logitsOf(model, TOKENS, EVERY, { backend: "reference" });
    expect(whole.every((x) => Number.isFinite(x))).toBe(true);
    for (const chunks of [
      [40, 7],
      [100, 3],
    ]) {
      const options = { backend: "reference", chunks, nulls: true } as const;
      expect(await logitsOf(model, TOKENS, EVERY, options)).toEqual(whole);
    }
  }, 60_000);

  test("the windows are seen: full layers alone compute something else from position 24 on", async () => {
    const hybrid = await logitsOf(await load("hybrid", { hybrid: true }), TOKENS, EVERY, {
      backend: "cpu",
    });
    const full = await logitsOf(await load("full", { numLayers: 6 }), TOKENS, EVERY, {
      backend: "cpu",
    });
    const same = 24 * TINY.vocabSize;
    expect(hybrid.subarray(0, same)).toEqual(full.subarray(0, same));
    expect(relativeError(hybrid.subarray(same), full.subarray(same))).toBeGreaterThan(0.01);
  });

  for (const isa of ISAS) {
    test(`${isa} agrees with the reference, and with itself to the bit however it is cut`, async () => {
      for (const dtype of ["F32", "Q4_1"] as const) {
        const model = await load(`${isa}-${dtype}`, { hybrid: true, dtype });
        const whole = await logitsOf(model, TOKENS, EVERY, { backend: "cpu", isa });
        if (dtype === "F32") {
          const expected = await logitsOf(model, TOKENS, EVERY, { backend: "reference" });
          const options = { backend: "cpu", isa, kvCacheDtype: "f16" };
          const found = await logitsOf(model, TOKENS, EVERY, options);
          expect(relativeError(found, expected)).toBeLessThan(FLOAT_TOLERANCE);
        }
        for (const [i, chunks] of CHUNKS.entries()) {
          const options = {
            backend: "cpu",
            isa,
            chunks,
            threads: 1 + (i % 3),
            nulls: true,
          } as const;
          expect(await logitsOf(model, TOKENS, EVERY, options)).toEqual(whole);
        }
      }
    }, 60_000);
  }

  test("models whose layers all have the window work alike", async () => {
    const model = await load("windows", { numLayers: 2, slidingWindow: 17 });
    expect(model.groups).toMatchObject([{ layers: 2, kind: "window", window: 17 }]);
    const whole = await logitsOf(model, TOKENS, EVERY, { backend: "cpu" });
    for (const chunks of CHUNKS) {
      const options = { backend: "cpu", chunks, nulls: true } as const;
      expect(await logitsOf(model, TOKENS, EVERY, options)).toEqual(whole);
    }
  });
});

function relativeError(found: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (const [i, x] of expected.entries()) {
    difference += ((found[i] as number) - x) ** 2;
    size += x * x;
  }
  return Math.sqrt(difference / size);
}
