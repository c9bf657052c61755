/**
 * The cuda backend's whole forward against the fp32 reference, and with itself to the bit. Needs a device, real or emulated:
 * `KVENGINE_TEST_DEVICE=cuda`, as `npm run test:cuda` and `npm run test:gpu` set it.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { loadModel } from "../../engine/models/registry.ts";
import { TEST_DEVICE } from "../support/engine-config.ts";
import { logitsOf } from "../support/logits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TINY, type TinyDtype, writeTinyModel } from "../support/tiny-model.ts";

/** The root mean square of the difference over that of the reference's logits; as in `logits.test.ts`. */
const TOLERANCES = {
  F32: 0.002,
  F16: 0.005,
  BF16: 0.03,
  Q4_0: 0.03,
  Q4_1: 0.03,
  Q8_0: 0.03,
} as const;
const TOKENS = Array.from({ length: 70 }, (_, i) => (i * 37 + 11) % TINY.vocabSize);
const EVERY = TOKENS.map((_, i) => i);
const CHUNKS = [[1], [7, 40, 1], [33]] as const;

const folder: string = temporaryFolder();

function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
}

/** The most probable token, and by how much its logit is above the next one's. */
function best(logits: Float32Array): { token: number; gap: number } {
  const token = logits.reduce((most, x, i) => (x > (logits[most] ?? -Infinity) ? i : most), 0);
  const next = logits.reduce((most, x, i) => (i !== token && x > most ? x : most), -Infinity);
  return { token, gap: (logits[token] ?? 0) - next };
}

describe.skipIf(TEST_DEVICE === "cpu")("on a device (skipped without one)", () => {
  const backend = TEST_DEVICE;
  for (const hybrid of [false, true]) {
    for (const dtype of Object.keys(TOLERANCES) as TinyDtype[]) {
      // Windows do not depend on the type of weights.
      if (hybrid && dtype !== "Q4_1" && dtype !== "F32") continue;
      const tolerance = TOLERANCES[dtype as keyof typeof TOLERANCES];
      test(`${dtype} weights${hybrid ? " among window layers" : ""}: logits agree with the reference, and with themselves to the bit`, async () => {
        const path = join(folder, `${dtype}-${hybrid}.gguf`);
        await writeTinyModel(path, { dtype, seed: 5, hybrid });
        const model = await loadModel(path);
        const expected = await logitsOf(model, TOKENS, EVERY, { backend: "reference" });
        const found = await logitsOf(model, TOKENS, EVERY, { backend });
        const scale = rootMeanSquare(expected);
        const off = rootMeanSquare(found.map((x, i) => x - (expected[i] ?? 0)));
        expect(off).toBeGreaterThan(0);
        expect(off).toBeLessThan(tolerance * scale);

        let decided = 0;
        for (const i of EVERY) {
          const row = [i * TINY.vocabSize, (i + 1) * TINY.vocabSize] as const;
          const { token, gap } = best(expected.subarray(...row));
          if (gap <= 2 * tolerance * scale) continue;
          decided++;
          expect(best(found.subarray(...row)).token).toBe(token);
        }
        expect(decided).toBeGreaterThan(EVERY.length / 2);

        for (const chunks of CHUNKS) {
          const again = await logitsOf(model, TOKENS, EVERY, { backend, chunks, nulls: true });
          expect(again).toEqual(found);
        }
      }, 300_000);
    }
  }
});
