/**
 * What an operation of a connector's view costs, in ns, at several sizes of the pool, on blocks in random order; and a lazy store's
 * scan of a window of 1,024 blocks that all have a copy, in ns a block. `--json` prints the figures as JSON.
 */

import { HASH_WORDS } from "../../engine/cache/block-hash.ts";
import { BlockPool } from "../../engine/cache/block-pool.ts";
import { ConnectorBlocks } from "../../engine/cache/gpu-block-pool-view.ts";

const SIZES = [1e3, 1e5, 1e6];
/** Operations of a round: short, so that a round is rarely interrupted. */
const ROUND = 256;
const ROUNDS = 301;
const WINDOW = 1024;

let seed = 1;
function random(): number {
  seed = (seed + 0x9e3779b9) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** Median over rounds, ns an operation. */
function measure(operation: (i: number) => void): number {
  const rounds: number[] = [];
  for (let round = 0; round < 2 * ROUNDS; round++) {
    const start = Bun.nanoseconds();
    for (let i = 0; i < ROUND; i++) operation(round * ROUND + i);
    if (round >= ROUNDS) rounds.push((Bun.nanoseconds() - start) / ROUND);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
}

function figuresAt(numBlocks: number): Record<string, number> {
  const pool = new BlockPool(numBlocks + 1);
  const ids = new Int32Array(numBlocks);
  pool.allocate(numBlocks, ids, 0);
  const hashes = Int32Array.from({ length: numBlocks * HASH_WORDS }, () => random() | 0);
  for (let i = 0; i < numBlocks; i++) pool.insert(ids[i] as number, hashes, i * HASH_WORDS, 0, 0);
  for (let i = numBlocks - 1; i > 0; i--) {
    const j = random() % (i + 1);
    [ids[i], ids[j]] = [ids[j] as number, ids[i] as number];
  }
  pool.free(ids, numBlocks);
  const { view } = new ConnectorBlocks({
    pool,
    blockSize: 16,
    committedStep: () => 0,
    maxHeld: numBlocks >> 1,
    holdTtlMs: 30_000,
    isPressed: () => false,
    numSpare: () => numBlocks,
    now: () => 0,
  });
  const order = Int32Array.from({ length: 1 << 16 }, () => 1 + (random() % numBlocks));
  const idOf = (i: number): number => order[i & 0xffff] as number;
  const keys = Array.from({ length: 1 << 12 }, (_, i) => view.hashOf(idOf(i)) ?? "");
  const keyOf = (i: number): string => keys[i & 0xfff] as string;
  const kept = view.lease([idOf(0)], { ttlMs: 1000 });
  const figures: Record<string, number> = {
    refCount: measure((i) => view.refCount(idOf(i))),
    hashOf: measure((i) => view.hashOf(idOf(i))),
    blockOfHash: measure((i) => view.blockOfHash(keyOf(i))),
    markSafe: measure((i) => view.markSafe([idOf(i)])),
    clearSafe: measure((i) => view.clearSafe([keyOf(i)])),
    "touchBlocks + freeBlocks": measure((i) => {
      const block = [idOf(i)];
      view.touchBlocks(block);
      view.freeBlocks(block);
    }),
    "lease + release": measure((i) => view.lease([idOf(i)], { ttlMs: 1000 }).release()),
    renew: measure(() => kept.renew()),
  };
  kept.release();
  let open = view.iterFreeBlockIdsWithHash();
  figures["next of an iteration"] = measure(() => {
    if (open.next().done === true) open = view.iterFreeBlockIdsWithHash();
  });
  const window: number[] = [];
  for (const { id } of view.iterFreeBlockIdsWithHash(WINDOW)) window.push(id);
  view.markSafe(window);
  figures["scan, a block with a copy"] =
    measure(() => {
      for (const { id } of view.iterFreeBlockIdsWithHash(window.length)) throw new Error(`${id}`);
    }) / window.length;
  return figures;
}

const columns = SIZES.map(figuresAt);
if (process.argv.includes("--json")) {
  process.stdout.write(
    `${JSON.stringify(SIZES.map((numBlocks, i) => ({ numBlocks, ...columns[i] })))}\n`,
  );
} else {
  process.stdout.write(`ns, median; blocks: ${SIZES.join(", ")}\n`);
  for (const name of Object.keys(columns[0] ?? {})) {
    const values = columns.map((figures) => (figures[name] ?? 0).toFixed(1).padStart(9));
    process.stdout.write(`${name.padEnd(28)}${values.join("")}\n`);
  }
}
