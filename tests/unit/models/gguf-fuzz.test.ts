import { expect, test } from "bun:test";
import { join } from "node:path";
import { KvEngineError } from "../../../engine/errors.ts";
import { readGguf } from "../../../engine/models/gguf.ts";
import { loadModel } from "../../../engine/models/registry.ts";
import { writeGguf } from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { tinyModel } from "../../support/tiny-model.ts";

const MUTATIONS = 2000;
/** The header has 7 kB, so that nothing that follows from it takes megabytes. */
const MAX_GROWTH = 256 << 20;
const HUGE = [
  0xffff_ffff_ffff_ffffn,
  0x7fff_ffff_ffff_ffffn,
  2n ** 53n,
  2n ** 32n,
  0xffff_ffffn,
  0x7fff_ffffn,
  1n << 24n,
  0n,
];

/** Numbers below `limit` from a seed: xorshift32. */
function random(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

function mutate(
  file: Uint8Array,
  headerBytes: number,
  next: (limit: number) => number,
): Uint8Array {
  const kind = next(4);
  if (kind === 0) return file.slice(0, next(file.length));
  const mutant = file.slice();
  const view = new DataView(mutant.buffer);
  if (kind === 1) {
    for (let i = 1 + next(8); i > 0; i--) mutant[next(headerBytes)] = next(256);
  } else if (kind === 2) {
    const at = next(headerBytes);
    mutant[at] = (mutant[at] ?? 0) ^ (1 << next(8));
  } else {
    view.setBigUint64(next(headerBytes - 8), HUGE[next(HUGE.length)] ?? 0n, true);
  }
  return mutant;
}

test(`${MUTATIONS} damaged files either load or are refused with a clear error, in bounded memory`, async () => {
  const path = join(temporaryFolder(), "mutant.gguf");
  await writeGguf(path, tinyModel());
  const whole = new Uint8Array(await Bun.file(path).arrayBuffer());
  const headerBytes = readGguf(path).dataOffset;
  const before = process.memoryUsage().rss;
  const next = random(0x2545f491);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < MUTATIONS; i++) {
    await Bun.write(path, mutate(whole, headerBytes, next));
    const outcome = await loadModel(path).then(
      () => "loads",
      (error: unknown) => {
        if (!(error instanceof KvEngineError)) throw error;
        expect(error.message).toStartWith(path);
        return error.code;
      },
    );
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  expect([...outcomes.keys()].sort()).toEqual(["bad_model", "loads", "unsupported"]);
  expect(process.memoryUsage().rss - before).toBeLessThan(MAX_GROWTH);
}, 60_000);
