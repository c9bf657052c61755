/** Two models, layouts, backends or versions never have one fingerprint; one model has the same in each run. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import * as fc from "fast-check";
import { digestOf, modelFingerprint } from "../../../engine/model-fingerprint.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const folder = temporaryFolder();

async function fileOf(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await Bun.write(path, bytes);
  return path;
}

describe("the digest of weights", () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 });

  test("changes with any byte, wherever it is cut into pieces", () => {
    fc.assert(
      fc.property(
        bytes,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.integer({ min: 1, max: 64 }),
        (all, pick, flip, piece) => {
          const changed = Uint8Array.from(all);
          changed[pick % all.length]! ^= flip;
          expect(digestOf(changed, piece)).not.toBe(digestOf(all, piece));
        },
      ),
      propertyRuns(500),
    );
  });

  test("changes with zeros at the end", () => {
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 64 }), (all, piece) => {
        expect(digestOf(Uint8Array.from([...all, 0]), piece)).not.toBe(digestOf(all, piece));
      }),
      propertyRuns(200),
    );
  });
});

test("a fingerprint is of the files' content, the layout, the backend and the seed, and of no name or time", async () => {
  const one = await fileOf("one", Uint8Array.of(1, 2, 3));
  const copy = await fileOf("copy", Uint8Array.of(1, 2, 3));
  const other = await fileOf("other", Uint8Array.of(1, 2, 4));
  const parts = { files: [one], pageLayout: "l", backend: "cpu/avx2", prefixHashSeed: "0" };
  const base = modelFingerprint(parts);
  expect(modelFingerprint({ ...parts, files: [copy] })).toBe(base);
  const changes = [
    { files: [other] },
    { files: [one, copy] },
    { pageLayout: "m" },
    { backend: "cpu/avx512" },
    { prefixHashSeed: "1" },
  ];
  const all = [base, ...changes.map((change) => modelFingerprint({ ...parts, ...change }))];
  expect(new Set(all).size).toBe(all.length);
});

test("a file that is not there is an error", () => {
  const parts = { pageLayout: "", backend: "", prefixHashSeed: "0" };
  expect(() => modelFingerprint({ ...parts, files: [join(folder, "nowhere")] })).toThrow();
});
