/**
 * An engine in which nothing is: all blocks free and without content, no host pages, no transfer that could begin. It gives a connector
 * a true view and a true context and refuses it everything, as a real engine may do at any moment.
 */

import type { BlockId, GpuBlockPoolView } from "./block-pool-view.ts";
import type { SchedulerContext } from "./connector.ts";
import { RefusedError } from "./errors.ts";

export interface EmptyEngine {
  readonly view: GpuBlockPoolView;
  readonly context: SchedulerContext;
}

const NUM_BLOCKS = 8;
const BLOCK_SIZE = 16;

/** `now`: milliseconds, monotonic. */
export function createEmptyEngine(name: string, now: () => number): EmptyEngine {
  return { view: createView(), context: createContext(name, now) };
}

function createView(): GpuBlockPoolView {
  const lease = (ids: readonly BlockId[]): never => {
    checkIds(ids);
    throw new RefusedError("stale", "no block has content");
  };
  return {
    numBlocks: NUM_BLOCKS,
    numFreeBlocks: NUM_BLOCKS,
    blockSize: BLOCK_SIZE,
    numLost: 0,
    refCount(id): number {
      checkIds([id]);
      return 0;
    },
    hashOf(id): undefined {
      checkIds([id]);
    },
    blockOfHash: () => undefined,
    iterFreeBlockIdsWithHash: () => [][Symbol.iterator](),
    lease,
    touchBlocks: lease,
    freeBlocks(ids): void {
      checkIds(ids);
      throw new RefusedError("notHeld", "no block is touched");
    },
    markSafe: checkIds,
    clearSafe(): void {},
  };
}

function checkIds(ids: readonly BlockId[]): void {
  for (const id of ids) {
    if (id === 0) throw new RefusedError("null", "block 0 is the null block");
    if (Number.isInteger(id) && id > 0 && id <= NUM_BLOCKS) continue;
    throw new RefusedError("invalid", `${id} is no block; allowed is 1 to ${NUM_BLOCKS}`);
  }
}

function createContext(name: string, now: () => number): SchedulerContext {
  return {
    name,
    groups: [{ kind: "full", window: 0 }],
    maxBatchedTokens: 64,
    now,
    wake(): void {},
    blocksOf: () => undefined,
    log: { info(): void {}, warn(): void {}, error(): void {} },
    metrics: { count(): void {}, set(): void {} },
    tiers: [],
    isRetained: () => false,
    numRetained: 0,
    serveContent: () => undefined,
    pages: {
      pageBytes: 1024,
      layout: "",
      numPages: 0,
      isGrowing: false,
      numFree: 0,
      alloc: (count) => (count === 0 ? [] : undefined),
      free(pages): void {
        if (pages.length > 0) throw new RefusedError("notHeld", "the host pool has no pages");
      },
    },
    transfers: {
      numFree: 0,
      rates: { loadBytesPerSecond: 0, storeBytesPerSecond: 0, latencyMs: 0, storeMs: 0 },
      store(): never {
        throw new RefusedError("budget", "no transfer may begin", 0);
      },
      load(): never {
        throw new RefusedError("budget", "no transfer may begin", 0);
      },
      cancel: () => false,
      isAwaited: () => false,
      giveUp(blocks): void {
        if (blocks.length > 0) throw new RefusedError("notHeld", "there is no open plan");
      },
    },
  };
}
