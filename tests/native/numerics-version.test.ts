/**
 * What kernels compute is part of what pages on a disk are known by. A kernel that computes other bits than the version says would read
 * pages of the old one as its own: where this fails, raise `NUMERICS_VERSION` and write the new digest, which the failure prints.
 */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { digestOf, NUMERICS_VERSION } from "../../engine/model-fingerprint.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { cpuFeatures } from "../../engine/runner/native.ts";
import { logitsOf } from "../support/logits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TINY, type TinyDtype, writeTinyModel } from "../support/tiny-model.ts";

/**
 * Version, and digest of the logits of a prompt that is longer than one split of attention, over types of weights and of KV. All instruction
 * sets compute the same bits here; where one no longer does, each gets its own.
 */
const EXPECTED = "1: 350-1397d83ab658ba89";

const WEIGHTS: readonly TinyDtype[] = ["F32", "BF16", "Q4_1", "Q8_0"];
const KV: readonly string[] = ["q16", "f16", "bf16", "q8"];
const ISAS = [...new Set(["portable", cpuFeatures().isa])];

const tokens = Array.from({ length: 300 }, (_, i) => (i * 37 + 11) % TINY.vocabSize);
const sampled = [0, 15, 16, 255, 256, 299];

test.each(ISAS)(
  "on %s, kernels compute the bits of their version",
  async (isa) => {
    const folder = temporaryFolder();
    const digests: string[] = [];
    for (const dtype of WEIGHTS) {
      const path = join(folder, `${dtype}.gguf`);
      await writeTinyModel(path, { dtype, seed: 5 });
      const model = await loadModel(path);
      for (const kvCacheDtype of KV) {
        const logits = await logitsOf(model, tokens, sampled, {
          backend: "cpu",
          isa,
          kvCacheDtype,
        });
        digests.push(digestOf(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength)));
      }
    }
    const digest = digestOf(new TextEncoder().encode(digests.join()));
    expect(`${NUMERICS_VERSION}: ${digest}`).toBe(EXPECTED);
  },
  60_000,
);
