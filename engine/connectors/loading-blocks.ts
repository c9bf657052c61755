/**
 * Device blocks that connectors are filling: who fills each, until when, in which flight, and which sequences wait for it. A block is
 * found by its content, so that later requests join the load instead of starting another.
 */

import type { BlockKey, RefusalCode } from "../../connectors/connector.ts";
import { HASH_WORDS, sameHash } from "../cache/block-hash.ts";
import { NULL_BLOCK } from "../cache/block-pool.ts";
import { KvEngineError } from "../errors.ts";
import type { Sequence } from "../scheduler/sequence.ts";

/** A sequence that has the block as entry `block` of its table. */
export interface Waiter {
  readonly sequence: Sequence;
  readonly block: number;
}

export interface LoadingBlock {
  readonly id: number;
  readonly group: number;
  /** 8 words. */
  readonly hash: Int32Array;
  readonly key: BlockKey;
  /** Who fills it, by its place among the connectors. */
  readonly connector: number;
  readonly tier: string;
  /** Milliseconds of the scheduler's clock. */
  readonly deadline: number;
  readonly waiters: Waiter[];
  /** The flight that brings it; undefined until its connector has begun one. */
  flight: number | undefined;
  /** Why the last load of it that its connector tried to begin was refused. */
  refusal: RefusalCode | undefined;
}

export class LoadingBlocks {
  readonly #byId = new Map<number, LoadingBlock>();
  /** Content that flights bring which was given up and cannot be cancelled: nothing else can load it from the same page yet. */
  readonly givenUp: Set<BlockKey> = new Set();
  /** By the first word of the hash. */
  readonly #byWord = new Map<number, LoadingBlock[]>();

  get size(): number {
    return this.#byId.size;
  }

  has(id: number): boolean {
    return this.#byId.has(id);
  }

  get(id: number): LoadingBlock | undefined {
    return this.#byId.get(id);
  }

  all(): IterableIterator<LoadingBlock> {
    return this.#byId.values();
  }

  /** The block that is being filled with this content; 0 = none. */
  find(hashes: Int32Array, block: number, group: number): number {
    if (this.#byId.size === 0) return NULL_BLOCK;
    const at = block * HASH_WORDS;
    for (const one of this.#byWord.get(hashes[at] as number) ?? [])
      if (one.group === group && sameHash(one.hash, 0, hashes, at)) return one.id;
    return NULL_BLOCK;
  }

  add(loading: LoadingBlock): void {
    const { id, hash } = loading;
    if (this.#byId.has(id)) throw new KvEngineError("internal", `block ${id} is loading already`);
    this.#byId.set(id, loading);
    const word = hash[0] as number;
    const same = this.#byWord.get(word);
    if (same === undefined) this.#byWord.set(word, [loading]);
    else same.push(loading);
  }

  remove(loading: LoadingBlock): void {
    this.#byId.delete(loading.id);
    const word = loading.hash[0] as number;
    const rest = (this.#byWord.get(word) ?? []).filter((one) => one !== loading);
    if (rest.length === 0) this.#byWord.delete(word);
    else this.#byWord.set(word, rest);
  }

  /** The sequence waits for the block no more. */
  leave(loading: LoadingBlock, sequence: Sequence): void {
    const index = loading.waiters.findIndex((waiter) => waiter.sequence === sequence);
    if (index >= 0) loading.waiters.splice(index, 1);
  }
}
