/** Lists of block ids as connectors give them: nothing is believed. */

import { RefusedError } from "../../connectors/errors.ts";
import { NULL_BLOCK } from "./block-pool.ts";

/**
 * A copy of a connector's list. Each element is read once, so what is checked is what is used. Throws `invalid` unless it is an array of
 * blocks, no longer than the pool; `null` when the null block is among them.
 */
export function readBlockIds(ids: unknown, numBlocks: number): Int32Array {
  if (!Array.isArray(ids)) throw invalid(`block ids are ${typeof ids}; allowed is an array`);
  const { length } = ids;
  if (!(length < numBlocks)) {
    throw invalid(`a list of ${length} block ids; allowed are at most ${numBlocks - 1}`);
  }
  const own = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    const id: unknown = ids[i];
    if (id === NULL_BLOCK) throw new RefusedError("null", "block 0 stands for no block");
    own[i] = checkBlockId(id, numBlocks);
  }
  return own;
}

/** The id. Throws `invalid` unless it is a block; the null block is none. */
export function checkBlockId(id: unknown, numBlocks: number): number {
  if (typeof id === "number" && (id | 0) === id && id > NULL_BLOCK && id < numBlocks) return id;
  const shown = typeof id === "number" ? String(id) : `a ${typeof id}`;
  throw invalid(`${shown} is no block id; allowed are integers from 1 to ${numBlocks - 1}`);
}

function invalid(message: string): RefusedError {
  return new RefusedError("invalid", message);
}
