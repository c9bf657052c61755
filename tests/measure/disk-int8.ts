/**
 * What `--kv-disk-compress int8` costs and gives: a prefix's KV goes to the disk and back, as it is and as int8, and what follows in the
 * text is scored on it. Prints how far the log-probabilities are from those on the KV that was computed (which pages as they are must
 * give bit for bit), bytes on the disk, and how fast prefixes come back with their files dropped from the page cache. Beside it stands KV
 * that is kept as q8 on the device, where nothing is of 16 bits. Sides take turns.
 *
 *   bun tests/measure/disk-int8.ts MODEL.gguf [--folder DIR] [--windows 6] [--prefix 2048] [--next 256] [--seed 7]
 *
 * Texts are this repository's documents and sources: so many windows of each, at places that the seed says.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "../../cli/bench/engine/rates.ts";
import { mean } from "../../cli/bench/metrics/distribution.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { Runner } from "../../engine/runner/native.ts";
import { NativeDisk } from "../../engine/runner/native-disk.ts";
import { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import { createTokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { logitsOf, specOf } from "../support/logits.ts";
import { stepWords } from "../support/step-words.ts";
import { dropCaches, type Figures, Flights, timed } from "./disk/flights.ts";
import { type Distance, distanceOf } from "./kl/distance.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    folder: { type: "string", default: tmpdir() },
    windows: { type: "string", default: "6" },
    prefix: { type: "string", default: "2048" },
    next: { type: "string", default: "256" },
    seed: { type: "string", default: "7" },
  },
});
const [modelPath] = positionals;
if (modelPath === undefined) throw new Error("usage: disk-int8.ts MODEL.gguf [--folder DIR] ...");
const BLOCK_SIZE = 16;
const numWindows = Number(values.windows);
const numBlocks = Math.ceil(Number(values.prefix) / BLOCK_SIZE);
const prefix = numBlocks * BLOCK_SIZE;
const next = Number(values.next);
const DEADLINE_MS = 60_000;
/** Room for one prefix, twice. */
const DISK_BYTES = 1 << 30;
const TEXTS = [
  ["documents", "*.md"],
  ["sources", "engine/scheduler/*.ts"],
] as const;

const root = fileURLToPath(new URL("../..", import.meta.url));
const model = await loadModel(modelPath);
if (model.groups.length !== 1 || model.groups[0]?.kind !== "full")
  throw new Error("this is for models whose layers all see the whole text");
const tokenizer = createTokenizer(model.vocabulary);
const { vocabSize } = model.config;
const length = prefix + next;
const runner = await Runner.create(
  specOf(model, {
    ...{ backend: "cpu", isa: "auto", threads: 2, kvCacheDtype: "auto" },
    ...{ maxTokens: length, numBlocks: Math.ceil(length / BLOCK_SIZE) + 1 },
  }),
  () => undefined,
);
const flights = new Flights();
const transfers = NativeTransfers.open(
  runner,
  {
    ...{ hostPages: 2 * numBlocks, threads: 1, fileThreads: 2, checksums: true },
    ...{ storeShare: 1, linkBytesPerSecond: 0, manual: false, guardSteps: false },
  },
  flights.onResults,
);
const { pageBytes } = transfers;
/** Blocks of the prefix; host pages that are stored, and those that are loaded. */
const blocks = Int32Array.from({ length: numBlocks }, (_, i) => i + 1);
const stored = Int32Array.from({ length: numBlocks }, (_, i) => i);
const loaded = stored.map((page) => numBlocks + page);

interface Side {
  readonly name: string;
  readonly folder: string;
  readonly disk: NativeDisk;
  readonly loads: Figures[];
  readonly distances: Distance[];
}

async function openSide(name: string, int8Layout: string | undefined): Promise<Side> {
  const folder = mkdtempSync(join(values.folder, "kvengine-int8-"));
  const disk = await NativeDisk.open(transfers, {
    ...{ path: folder, sizeBytes: DISK_BYTES, pageBytes, fingerprint: "measured" },
    ...(int8Layout === undefined ? {} : { int8Layout }),
  });
  return { name, folder, disk, loads: [], distances: [] };
}

let stepId = 0;

/** `[next, vocabulary]` on the prefix that lies in the blocks. */
function logitsBehind(ids: Int32Array): Promise<Float32Array> {
  return step(ids, prefix, length);
}

/** Computes a part of the text; of tokens behind the prefix answers logits. */
function step(ids: Int32Array, start: number, end: number): Promise<Float32Array> {
  const samples = Array.from(
    { length: start < prefix ? 0 : end - start },
    (_, i) => [i, 0] as const,
  );
  const table = Array.from({ length: Math.ceil(end / BLOCK_SIZE) }, (_, i) => i + 1);
  const row = { seat: 0, start, tokens: ids.subarray(start, end), samples, tables: [table] };
  return runner.logits(stepWords(stepId++, [row]));
}

/** Takes the prefix to the disk and back into its blocks. */
async function restore({ folder, disk, loads }: Side, window: number): Promise<void> {
  const keys = Array.from(blocks, (block) =>
    blockKey(new Int32Array(8).fill(window * 65_536 + block), 0, 0),
  );
  await flights.inParts(numBlocks, (id, first, end) =>
    disk.store(id, keys.slice(first, end), stored.slice(first, end)),
  );
  dropCaches(folder);
  const load = (): Promise<void> =>
    flights.inParts(numBlocks, (id, first, end) =>
      disk.load(id, keys.slice(first, end), loaded.slice(first, end)),
    );
  loads.push(await timed(load));
  disk.remove(keys);
  await flights.fly((id) => transfers.load(id, loaded, blocks, -1));
}

async function measure(ids: Int32Array, window: number, sides: readonly Side[]): Promise<Distance> {
  await step(ids, 0, prefix);
  await flights.fly((id) => transfers.store(id, blocks, stored, -1));
  const targets = Array.from(ids.subarray(prefix + 1));
  const computed = await logitsBehind(ids);
  for (const side of window % 2 === 0 ? sides : sides.toReversed()) {
    await restore(side, window);
    const distance = distanceOf(computed, await logitsBehind(ids), vocabSize, targets);
    if (side === sides[0] && distance.change !== 0)
      throw new Error("pages that were kept as they are gave other numbers");
    side.distances.push(distance);
  }
  const positions = Array.from({ length: next }, (_, i) => prefix + i);
  const q8 = await logitsOf(model, ids, positions, { backend: "cpu", kvCacheDtype: "q8" });
  return distanceOf(computed, q8, vocabSize, targets);
}

const signed = (x: number): string => `${x < 0 ? "" : "+"}${x.toFixed(5)}`;

function said(name: string, distances: readonly Distance[]): string {
  const of = (value: (one: Distance) => number): number => mean(distances.map(value));
  const worst = Math.max(...distances.map(({ divergence }) => divergence));
  return [
    `  ${name.padEnd(14)} KL ${of((one) => one.divergence).toExponential(2)} (worst window ${worst.toExponential(2)})`,
    `mean |change of a log-probability| ${of((one) => one.change).toFixed(5)}`,
    `log-perplexity ${signed(of((one) => one.shift))}`,
    `same first choice ${(100 * of((one) => one.agreement)).toFixed(2)} %`,
  ].join(", ");
}

/** A generator of numbers below 1 (Numerical Recipes). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function tokensOf(pattern: string): Promise<Int32Array> {
  const paths = [...new Bun.Glob(pattern).scanSync(root)].sort();
  const texts = await Promise.all(paths.map((path) => Bun.file(join(root, path)).text()));
  return Int32Array.from(tokenizer.encode(texts.join("\n"), { parseSpecial: false }));
}

await flights.untilReady(transfers);
const sides = [
  await openSide("as they are", undefined),
  await openSide("int8", runner.info().pageLayout),
];
try {
  const draw = random(Number(values.seed));
  console.log(`${numWindows} windows of ${prefix} tokens and ${next} behind them, of each text`);
  for (const [text, pattern] of TEXTS) {
    const ids = await tokensOf(pattern);
    const onDevice: Distance[] = [];
    const before = sides[0]?.distances.length ?? 0;
    for (let window = 0; window < numWindows; window++) {
      const from = Math.floor(draw() * (ids.length - length));
      onDevice.push(await measure(ids.slice(from, from + length), before + window, sides));
    }
    console.log(`${text}, ${ids.length} tokens`);
    for (const { name, distances } of sides) console.log(said(name, distances.slice(before)));
    console.log(said("q8 on a device", onDevice));
  }
  for (const { name, disk, loads } of sides) {
    const { readBytes, hits } = disk.stats();
    const rate = (numBlocks * pageBytes) / 1e6 / median(loads.map(({ seconds }) => seconds));
    const micros = median(loads.map(({ cpuMicros }) => cpuMicros)) / prefix;
    const bytes = (readBytes / hits / BLOCK_SIZE).toFixed(0);
    console.log(
      `  ${name.padEnd(14)} ${bytes} bytes a token, comes back with ${rate.toFixed(0)} MB/s of KV, ${micros.toFixed(1)} µs CPU a token`,
    );
  }
} finally {
  for (const { folder, disk } of sides) {
    await disk.close(DEADLINE_MS);
    rmSync(folder, { recursive: true, force: true });
  }
  await transfers.stop(DEADLINE_MS);
  await runner.stop();
}
