/**
 * What handing out and freeing a block costs, in ns a block: allocation in runs of 16 and freeing in random order of the runs, so
 * that the free queue jumps through the pool as it does after a day. `--json` prints the figures as JSON.
 */

import { HASH_WORDS } from "../../engine/cache/block-hash.ts";
import { BlockPool } from "../../engine/cache/block-pool.ts";

const RUN = 16;
const ROUNDS = 25;
const SIZES = [1e3, 1e4, 1e5, 1e6];

let seed = 1;
/** 32 uniform bits, all of them: buckets are the low ones of a hash. */
function random(): number {
  seed = (seed + 0x9e3779b9) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? 0;

/** Random hashes, one for each block of the pool. */
function makeHashes(numBlocks: number): Int32Array {
  return Int32Array.from({ length: numBlocks * HASH_WORDS }, () => random() | 0);
}

/** The pool after all of its blocks were taken one by one and freed in random order. */
function shuffledPool(numBlocks: number): BlockPool {
  const pool = new BlockPool(numBlocks + 1);
  const ids = new Int32Array(numBlocks);
  pool.allocate(numBlocks, ids, 0);
  for (let i = numBlocks - 1; i > 0; i--) {
    const j = random() % (i + 1);
    const id = ids[i] as number;
    ids[i] = ids[j] as number;
    ids[j] = id;
  }
  pool.free(ids, numBlocks);
  return pool;
}

/** Takes half of the pool, run by run, then gives it back. Answers ns a block. */
function plain(numBlocks: number): number {
  const pool = shuffledPool(numBlocks);
  const numRuns = Math.max(1, Math.floor(numBlocks / 2 / RUN));
  const runs = Array.from({ length: numRuns }, () => new Int32Array(RUN));
  const round = (): number => {
    const start = Bun.nanoseconds();
    for (const run of runs) pool.allocate(RUN, run, 0);
    for (const run of runs) pool.free(run, RUN);
    return (Bun.nanoseconds() - start) / (numRuns * RUN);
  };
  for (let i = 0; i < 10 || i < 2e6 / numBlocks; i++) round();
  return median(Array.from({ length: ROUNDS }, round));
}

/** The same with a pool full of cached blocks: each one handed out is evicted, published as `publishBlocks` does, and freed. */
function hashed(numBlocks: number): number {
  const pool = shuffledPool(numBlocks);
  const hashes = makeHashes(numBlocks * 2);
  const numRuns = Math.max(1, Math.floor(numBlocks / RUN));
  const run = new Int32Array(RUN);
  let next = 0;
  const round = (): number => {
    const start = Bun.nanoseconds();
    for (let i = 0; i < numRuns; i++) {
      pool.allocate(RUN, run, 0);
      if (next + RUN > numBlocks * 2) next = 0;
      pool.prefetchKeys(hashes, next * HASH_WORDS, RUN, 0);
      for (let k = 0; k < RUN; k++)
        pool.insert(run[k] as number, hashes, next++ * HASH_WORDS, 0, i);
      pool.free(run, RUN);
    }
    return (Bun.nanoseconds() - start) / (numRuns * RUN);
  };
  for (let i = 0; i < 5 || i < 2e6 / numBlocks; i++) round();
  return median(Array.from({ length: ROUNDS }, round));
}

/** Look-ups of keys in random order, of which half are there. */
function find(numBlocks: number): number {
  const pool = new BlockPool(numBlocks + 1);
  const hashes = makeHashes(numBlocks * 2);
  const ids = new Int32Array(numBlocks);
  pool.allocate(numBlocks, ids, 0);
  for (let i = 0; i < numBlocks; i++)
    pool.insert(ids[i] as number, hashes, i * 2 * HASH_WORDS, 0, 0);
  const keys = Int32Array.from({ length: numBlocks }, () => random() % (numBlocks * 2));
  const round = (): number => {
    let found = 0;
    const start = Bun.nanoseconds();
    for (let i = 0; i < numBlocks; i++)
      found += pool.find(hashes, (keys[i] as number) * HASH_WORDS, 0) === 0 ? 0 : 1;
    const nanos = (Bun.nanoseconds() - start) / numBlocks;
    if (found === 0) throw new Error("nothing was found");
    return nanos;
  };
  for (let i = 0; i < 5 || i < 2e6 / numBlocks; i++) round();
  return median(Array.from({ length: ROUNDS }, round));
}

const rows = SIZES.map((numBlocks) => ({
  numBlocks,
  allocateAndFree: plain(numBlocks),
  evictInsertAndFree: hashed(numBlocks),
  find: find(numBlocks),
}));
if (process.argv.includes("--json")) {
  process.stdout.write(`${JSON.stringify(rows)}\n`);
} else {
  process.stdout.write(
    "blocks     allocate+free   evict+insert+free   find   (ns a block, median)\n",
  );
  for (const row of rows) {
    const figures = [row.allocateAndFree, row.evictInsertAndFree, row.find];
    process.stdout.write(
      `${String(row.numBlocks).padEnd(11)}${figures.map((figure) => figure.toFixed(1).padEnd(17)).join("")}\n`,
    );
  }
}
