/**
 * The cpu backend's whole forward against the fp32 reference. The measure is the root mean square of the difference over that
 * of the reference's logits. What is allowed: weights in float leave the rounding of KV and of sums; quantised ones add
 * activations in int8 blocks of 32, about 0.4 % of each value, through every layer.
 */

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type LoadedModel, loadModel } from "../../engine/models/registry.ts";
import { cpuFeatures } from "../../engine/runner/native.ts";
import { createTokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { logitsOf } from "../support/logits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TINY, type TinyDtype, writeTinyModel } from "../support/tiny-model.ts";

/** f16 has 11 bits, bf16 8 (queries and attention's weights too), q16 and q8 13 and 7 of the largest number of a token and head. */
const FLOAT_TOLERANCES = { q16: 0.002, f16: 0.002, bf16: 0.008, q8: 0.016 };
const QUANTISED_TOLERANCE = 0.03;
/** 30 layers instead of 2 add up. */
const DEFAULT_MODEL_TOLERANCE = 0.08;
const DEFAULT_MODEL_DIVERGENCE = 0.01;

const ISAS: readonly string[] = [
  "portable",
  ...(cpuFeatures().isa === "portable" ? [] : [cpuFeatures().isa]),
];

const folder: string = temporaryFolder();

describe("the cpu backend on the tiny model", () => {
  const tokens = Array.from({ length: 70 }, (_, i) => (i * 37 + 11) % TINY.vocabSize);
  const every = tokens.map((_, i) => i);
  for (const dtype of ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"] satisfies TinyDtype[]) {
    const cases = ISAS.flatMap((isa) =>
      Object.entries(FLOAT_TOLERANCES).map(([kv, float]) => ({ isa, kv, float })),
    );
    for (const { isa, kv, float } of cases) {
      const tolerance = dtype.startsWith("Q") ? QUANTISED_TOLERANCE : float;
      test(`${dtype} weights on ${isa} with KV as ${kv} agree with the reference within ${tolerance}`, async () => {
        const path = join(folder, `${dtype}.gguf`);
        await writeTinyModel(path, { dtype, seed: 5 });
        const model = await loadModel(path);
        const expected = await logitsOf(model, tokens, every, { backend: "reference" });
        const options = { backend: "cpu", isa, kvCacheDtype: kv };
        const found = await logitsOf(model, tokens, every, options);
        expect(found.length).toBe(tokens.length * TINY.vocabSize);
        const error = relativeError(found, expected);
        expect(error).toBeGreaterThan(0);
        expect(error).toBeLessThan(tolerance);
      });
    }
  }
});

const path = defaultModelPath();
describe.skipIf(!existsSync(path))(
  "the cpu backend on the default model (skipped without its file)",
  () => {
    test("a text's logits, its likeliest tokens and its KL divergence agree with the reference", async () => {
      const model: LoadedModel = await loadModel(path);
      const text = await Bun.file(new URL("../measure/texts/prose.txt", import.meta.url)).text();
      const tokens = createTokenizer(model.vocabulary)
        .encode(text, { parseSpecial: false })
        .slice(0, 96);
      const sampled = Array.from({ length: 48 }, (_, i) => 48 + i);
      const expected = await logitsOf(model, tokens, sampled, { backend: "reference" });
      const found = await logitsOf(model, tokens, sampled, { backend: "cpu" });
      expect(relativeError(found, expected)).toBeLessThan(DEFAULT_MODEL_TOLERANCE);
      const width = model.config.vocabSize;
      const rows = sampled.map((_, i) => [i * width, (i + 1) * width] as const);
      const agreeing = rows.filter(
        ([a, b]) => argmax(found.subarray(a, b)) === argmax(expected.subarray(a, b)),
      );
      expect(agreeing.length).toBeGreaterThanOrEqual(44);
      const divergences = rows.map(([a, b]) =>
        divergence(expected.subarray(a, b), found.subarray(a, b)),
      );
      const mean = divergences.reduce((sum, d) => sum + d, 0) / divergences.length;
      expect(mean).toBeGreaterThan(0);
      expect(mean).toBeLessThan(DEFAULT_MODEL_DIVERGENCE);
    }, 60_000);
  },
);

function relativeError(found: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (const [i, x] of expected.entries()) {
    difference += ((found[i] as number) - x) ** 2;
    size += x * x;
  }
  return Math.sqrt(difference / size);
}

function argmax(row: Float32Array): number {
  return row.reduce((best, x, i) => (x > (row[best] as number) ? i : best), 0);
}

/** KL divergence of `found`'s distribution from `expected`'s, in nats. */
function divergence(expected: Float32Array, found: Float32Array): number {
  const p = logSoftmax(expected);
  const q = logSoftmax(found);
  return p.reduce((sum, logP, i) => sum + Math.exp(logP) * (logP - (q[i] as number)), 0);
}

function logSoftmax(row: Float32Array): Float64Array {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const logSum = Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return Float64Array.from(row, (x) => x - max - logSum);
}
