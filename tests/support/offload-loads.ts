/**
 * Loads on which a lazy offload must lose nothing, on a block pool without a scheduler: blocks are handed out step by step, get
 * content, are freed, and are handed out again; what had content by then and no finished copy is lost. The lazy store of vLLM 0.33.0
 * (`VllmCursor`) loses a part of the steady ones and everything in the stall, and copies all of a backlog, needed or not.
 */

import { BlockPool } from "../../engine/cache/block-pool.ts";
import { hashNumber } from "./cached-sequence.ts";

export interface OffloadLoad {
  readonly name: string;
  /** Blocks of the pool that can be handed out. */
  readonly numBlocks: number;
  /** Of these, blocks that are idle with content before the first step. */
  readonly numIdle: number;
  readonly numSteps: number;
  /** Blocks that are handed out in a step. */
  allocatedIn(step: number): number;
  /** Steps until those blocks are freed. */
  lifeFrom(step: number): number;
  /** Steps that a copy begun in a step takes; 0 = it has ended before the next scan. */
  latencyFrom(step: number): number;
}

/** A fixed sequence that looks random: from `low` to `high`. */
function varying(step: number, low: number, high: number): number {
  const mixed = Math.imul(step + 1, 0x9e3779b1) ^ Math.imul(step + 7, 0x85ebca6b);
  return low + ((mixed >>> 9) % (high - low + 1));
}

/** Four blocks a step, each request living 5 to 20 steps, as in the runs against vLLM. */
const STEADY = {
  numBlocks: 512,
  numIdle: 0,
  numSteps: 1_500,
  allocatedIn: (): number => 4,
  lifeFrom: (step: number): number => varying(step, 5, 20),
};

/** 128 idle blocks, 49 steps of rest, then 40 of them are handed out again. */
const RESTING = {
  numBlocks: 128,
  numIdle: 128,
  numSteps: 60,
  allocatedIn: (step: number): number => (step < 49 || step >= 59 ? 0 : 4),
  lifeFrom: (): number => 100,
};

type LoadName = "steady" | "steadyAtOnce" | "bursts" | "backlog" | "stall";

export const OFFLOAD_LOADS: Readonly<Record<LoadName, OffloadLoad>> = {
  steady: {
    ...STEADY,
    name: "steady, copies of 1 to 10 steps",
    latencyFrom: (step) => varying(step, 1, 10),
  },
  steadyAtOnce: { ...STEADY, name: "steady, copies that end at once", latencyFrom: () => 0 },
  bursts: {
    ...STEADY,
    name: "bursts, copies of 1 to 10 steps",
    allocatedIn: (step) => (step % 3 === 0 ? 12 : 0),
    latencyFrom: (step) => varying(step, 1, 10),
  },
  backlog: { ...RESTING, name: "a backlog at rest, copies of 3 steps", latencyFrom: () => 3 },
  stall: { ...RESTING, name: "a backlog at rest, copies that end at once", latencyFrom: () => 0 },
};

export interface LoadWorld {
  readonly pool: BlockPool;
  /** The step that is committed. */
  readonly step: () => number;
  /** Begins a copy; `Offloader.ended` tells when it has ended. */
  readonly copy: (ids: readonly number[]) => void;
}

export interface Offloader {
  /** At the end of a step in which `numAllocated` blocks were handed out. */
  scan(numAllocated: number): void;
  /** A copy has ended, before the next step. */
  ended(ids: readonly number[]): void;
}

export interface LoadResult {
  /** Blocks with content that were handed out again. */
  readonly numEvicted: number;
  /** Those without a finished copy. */
  readonly numLost: number;
  readonly numCopies: number;
  /** Copies of content that had one already. */
  readonly numCopiedTwice: number;
}

/** The highest that a number of a load gets in any step. */
export function most(load: OffloadLoad, of: "allocatedIn" | "latencyFrom"): number {
  return Math.max(...Array.from({ length: load.numSteps }, (_, step) => load[of](step)));
}

/** Plays a load against an offloader; the pool's integrity is checked after every step. */
export function playLoad(load: OffloadLoad, create: (world: LoadWorld) => Offloader): LoadResult {
  const pool = new BlockPool(load.numBlocks + 1);
  const result = { numEvicted: 0, numLost: 0, numCopies: 0, numCopiedTwice: 0 };
  const flights: { readonly ids: readonly number[]; readonly end: number }[] = [];
  const freed: { readonly ids: Int32Array; readonly end: number }[] = [];
  /** Content of each block, a number of its own; undefined before the first. */
  const contents: (number | undefined)[] = [];
  const copied = new Set<number>();
  let step = 0;
  let nextContent = 0;
  const copy = (ids: readonly number[]): void => {
    if (ids.length > 0) flights.push({ ids, end: step + load.latencyFrom(step) });
  };
  const offloader = create({ pool, step: () => step, copy });

  const allocate = (count: number): Int32Array => {
    const ids = new Int32Array(count);
    if (!pool.allocate(count, ids, 0))
      throw new Error(`step ${step}: ${count} blocks are not free`);
    for (const id of ids) {
      const content = contents[id];
      if (content !== undefined) {
        result.numEvicted++;
        if (!copied.has(content)) result.numLost++;
      }
      contents[id] = nextContent;
      pool.insert(id, hashNumber(nextContent++), 0, 0, step);
    }
    return ids;
  };
  const settle = (): void => {
    for (let i = 0; i < flights.length;) {
      const flight = flights[i];
      if (flight === undefined || flight.end > step) {
        i++;
        continue;
      }
      flights.splice(i, 1);
      for (const id of flight.ids) {
        const content = contents[id] ?? -1;
        if (copied.has(content)) result.numCopiedTwice++;
        copied.add(content);
        result.numCopies++;
      }
      offloader.ended(flight.ids);
    }
  };

  const idle = allocate(load.numIdle);
  pool.free(idle, idle.length);
  for (; step < load.numSteps; step++) {
    for (let i = 0; i < freed.length;) {
      const due = freed[i];
      if (due === undefined || due.end > step) {
        i++;
        continue;
      }
      freed.splice(i, 1);
      pool.free(due.ids, due.ids.length);
    }
    const numAllocated = load.allocatedIn(step);
    const ids = allocate(numAllocated);
    if (numAllocated > 0) freed.push({ ids, end: step + load.lifeFrom(step) });
    offloader.scan(numAllocated);
    settle();
    pool.checkIntegrity();
  }
  return result;
}

/**
 * vLLM's lazy store: it walks on from the block that it came to last, unless that is referenced; a copy is a reference, so the block
 * leaves the queue and comes back to its end. It looks at twice the blocks that a step may fill.
 */
export class VllmCursor implements Offloader {
  readonly #world: LoadWorld;
  /** Blocks that it looks at in a step. */
  readonly #target: number;
  #cursor = 0;
  readonly #generations = new Map<number, number>();

  constructor(world: LoadWorld, load: OffloadLoad) {
    this.#world = world;
    this.#target = 2 * Math.max(4, most(load, "allocatedIn"));
  }

  scan(): void {
    const { pool, copy } = this.#world;
    if (this.#cursor !== 0 && pool.references(this.#cursor) > 0) this.#cursor = 0;
    const queue = pool.freeIds();
    const from = queue.indexOf(this.#cursor) + 1;
    const walked = queue.slice(from, from + this.#target);
    this.#cursor = walked.at(-1) ?? this.#cursor;
    const ids = walked.filter(
      (id) => pool.isHashed(id) && this.#generations.get(id) !== pool.generation(id),
    );
    pool.touch(Int32Array.from(ids), ids.length);
    copy(ids);
  }

  ended(ids: readonly number[]): void {
    const { pool } = this.#world;
    for (const id of ids) this.#generations.set(id, pool.generation(id));
    pool.free(Int32Array.from(ids), ids.length);
  }
}
