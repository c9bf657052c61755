/** One connector's part of a pool, with a clock that the test sets. */

import { RefusedError } from "../../connectors/errors.ts";
import { BlockPool } from "../../engine/cache/block-pool.ts";
import {
  ConnectorBlocks,
  type ConnectorBlocksOptions,
} from "../../engine/cache/gpu-block-pool-view.ts";
import { allocate, free, hashNumber } from "./cached-sequence.ts";

/** What a test moves. */
export interface ConnectorWorld {
  /** Milliseconds. */
  now: number;
  committedStep: number;
  isPressed: boolean;
  numSpare: number;
}

export function connectorOn(
  pool: BlockPool,
  world: ConnectorWorld = connectorWorld(),
  options: Partial<ConnectorBlocksOptions> = {},
): ConnectorBlocks {
  return new ConnectorBlocks({
    pool,
    blockSize: 16,
    committedStep: () => world.committedStep,
    maxHeld: pool.numBlocks,
    holdTtlMs: 30_000,
    isPressed: () => world.isPressed,
    numSpare: () => world.numSpare,
    now: () => world.now,
    ...options,
  });
}

/** The time is 0, step 0 has committed, nothing waits or is needed. */
export function connectorWorld(): ConnectorWorld {
  return { now: 0, committedStep: 0, isPressed: false, numSpare: Infinity };
}

/** A pool with `numBlocks` free blocks, of which the first have content: block `i` that of number `i`, the head of the queue first. */
export function cachedPool(numBlocks: number, numCached: number = numBlocks): BlockPool {
  const pool = new BlockPool(numBlocks + 1);
  const ids = allocate(pool, numCached) ?? [];
  for (const id of ids) pool.insert(id, hashNumber(id), 0, 0, 0);
  // The last of a freed table is the next to be handed out.
  free(pool, ids.reverse());
  return pool;
}

/** The refusal that a call throws; any other outcome fails the test. */
export function refusalOf(call: () => unknown): RefusedError {
  try {
    call();
  } catch (error) {
    if (error instanceof RefusedError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}
