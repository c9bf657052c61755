/**
 * All that a connector may do with the device's KV blocks: look at them, hold them for a time, and say which have a copy. It cannot
 * allocate, evict or reset, and there is no way from here to the pool's own objects. Each connector has a view of its own, with its own
 * ledger: it can free what it holds and nothing else. A call takes effect whole or not at all.
 */

/** A block of the device, from 1 on; 0 is the null block, which stands in a table where a position left the window. */
export type BlockId = number;

/**
 * Names a block's content: the hash of its tokens and of all before them, and the group of layers. Text, equal for equal content on
 * every instance with the same hash seed; usable as the key of a `Map`, opaque otherwise.
 */
export type BlockKey = string;

/** A free block whose content is still there. */
export interface FreeBlock {
  readonly id: BlockId;
  readonly hash: BlockKey;
  /** Free blocks that are handed out before it. */
  readonly distance: number;
}

export interface LeaseOptions {
  /** How long the blocks are held unless the lease is renewed. At least 1 ms, at most a day. */
  readonly ttlMs: number;
}

/**
 * A hold with an end. It ends by `release`, at its deadline, or when the connector is disabled or shut down. While it is live its
 * blocks keep their content and are handed out to nobody.
 */
export interface BlockLease extends Disposable {
  readonly ids: readonly BlockId[];
  /** Milliseconds of the context's clock. */
  readonly expiresAt: number;
  readonly live: boolean;
  /**
   * Holds on for `ttlMs` (that of the lease when left out) from now. False, and nothing changed, when the lease is not live or
   * was recalled and the recall's deadline has passed. A recalled lease ends `--kv-connector-hold-ttl` after that at the latest.
   */
  renew(ttlMs?: number): boolean;
  /** Gives the blocks back; the second time it does nothing. */
  release(): void;
}

export interface GpuBlockPoolView {
  /** Blocks that can hold KV: all but the null one. */
  readonly numBlocks: number;
  /** Blocks that a request could be given now. */
  readonly numFreeBlocks: number;
  /** Tokens of a block. */
  readonly blockSize: number;
  /** Blocks with content that were handed out to others while they were not marked safe, since the start. */
  readonly numLost: number;
  /** Requests and connectors that hold a block; 0 = it is free. Throws `invalid` for an id that is no block. */
  refCount(id: BlockId): number;
  /** What a block holds, once the step that filled it has committed. Throws `invalid` for an id that is no block. */
  hashOf(id: BlockId): BlockKey | undefined;
  /** A block with this content, if there is one whose step has committed. */
  blockOfHash(key: BlockKey): BlockId | undefined;
  /**
   * Free blocks with content, the next to be handed out first, as far as a distance of `within` (all when left out). Blocks that are
   * marked safe and blocks that are being copied are passed by, and count for the distance. The pool may change while the iteration is
   * open: each block near eviction is seen, none twice. A view has one open iteration; when the next one begins, an older one throws
   * `closed`.
   */
  iterFreeBlockIdsWithHash(within?: number): IterableIterator<FreeBlock>;
  /**
   * Holds the blocks until `lease.expiresAt`. A block that is free leaves the free queue and goes to its end afterwards. One that is
   * named twice is held twice; a lease of no blocks is over at once. Throws `RefusedError`: `null`, `invalid`, `stale`, `budget`,
   * `pressure`, `closed`.
   */
  lease(ids: readonly BlockId[], options: LeaseOptions): BlockLease;
  /** A lease of `--kv-connector-hold-ttl` that `freeBlocks` ends, one touch for each time that a block is named. Throws as `lease`. */
  touchBlocks(ids: readonly BlockId[]): void;
  /**
   * Ends the oldest open touch of each block. Throws `notHeld`, and changes nothing, when a block is not touched; throws
   * `lease_expired` when the oldest touch of a block ended at its deadline: those expired touches are forgotten, nothing else changes.
   */
  freeBlocks(ids: readonly BlockId[]): void;
  /**
   * Says that the connector has a copy of the blocks' present content, so that the iteration passes them by until they are handed out
   * again. A store of the connector that has ended well does this by itself. Blocks without content are passed over.
   */
  markSafe(ids: readonly BlockId[]): void;
  /** Takes the mark from the blocks that hold this content: the copy is gone. */
  clearSafe(keys: readonly BlockKey[]): void;
}
