/**
 * The block pool as one connector sees it. The object that the connector gets is a frozen set of functions: what they stand on (pool,
 * ledger, marks) cannot be reached from it. The engine keeps the other side, `ConnectorBlocks`.
 */

import type { BlockKey, GpuBlockPoolView } from "../../connectors/block-pool-view.ts";
import { RefusedError } from "../../connectors/errors.ts";
import { checkBlockId, readBlockIds } from "./block-ids.ts";
import { checkBlockKey } from "./block-key.ts";
import { BlockKeys } from "./block-keys.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import { CommittedContent } from "./committed-content.ts";
import { FreeBlockScan } from "./free-block-scan.ts";
import { LeaseLedger, type LeaseLedgerOptions } from "./leases.ts";
import { SafeMarks } from "./safe-marks.ts";

export interface ConnectorBlocksOptions extends Omit<LeaseLedgerOptions, "content"> {
  readonly pool: BlockPool;
  /** Shared with others of the same pool. */
  readonly keys?: BlockKeys;
  /** Tokens of a block. */
  readonly blockSize: number;
  /** The last step that has committed, -1 before the first. */
  readonly committedStep: () => number;
}

/** What one connector has to do with the pool, as the engine sees it. */
export class ConnectorBlocks {
  readonly view: GpuBlockPoolView;
  readonly ledger: LeaseLedger;
  /** What the connector may see of the pool. */
  readonly content: CommittedContent;
  readonly #scan: FreeBlockScan;
  readonly #marks: SafeMarks;
  #numLost = 0;

  constructor(options: ConnectorBlocksOptions) {
    const { pool, blockSize, committedStep } = options;
    const keys = options.keys ?? new BlockKeys(pool);
    const content = new CommittedContent(pool, keys, committedStep);
    const marks = new SafeMarks(pool);
    this.#marks = marks;
    pool.onEvicted((id) => {
      if (!marks.has(id)) this.#numLost++;
    });
    this.content = content;
    this.ledger = new LeaseLedger({ ...options, content });
    this.#scan = new FreeBlockScan(pool, content, marks);
    this.view = createView({
      pool,
      blockSize,
      content,
      marks,
      ledger: this.ledger,
      scan: this.#scan,
      numLost: () => this.#numLost,
    });
  }

  /** See `GpuBlockPoolView.numLost`. */
  get numLost(): number {
    return this.#numLost;
  }

  /** The connector has a copy of the blocks' present content. The blocks have content. */
  markSafe(ids: readonly number[]): void {
    for (const id of ids) this.#marks.set(id);
  }

  /** Whether the connector has a copy of the block's present content. */
  isSafe(id: number): boolean {
    return this.#marks.has(id);
  }

  /** Ends all that the connector holds; every call of its view is refused from here on. */
  disable(): void {
    this.#scan.close();
    this.ledger.disable();
  }
}

interface ViewParts {
  readonly pool: BlockPool;
  readonly blockSize: number;
  readonly content: CommittedContent;
  readonly marks: SafeMarks;
  readonly ledger: LeaseLedger;
  readonly scan: FreeBlockScan;
  readonly numLost: () => number;
}

function createView({
  pool,
  blockSize,
  content,
  marks,
  ledger,
  scan,
  numLost,
}: ViewParts): GpuBlockPoolView {
  const checkOpen = (): void => ledger.checkOpen();
  return Object.freeze<GpuBlockPoolView>({
    get numBlocks() {
      checkOpen();
      return pool.numBlocks - 1;
    },
    get numFreeBlocks() {
      checkOpen();
      return pool.numFree;
    },
    get blockSize() {
      checkOpen();
      return blockSize;
    },
    get numLost() {
      checkOpen();
      return numLost();
    },
    refCount: (id) => {
      checkOpen();
      return pool.references(checkBlockId(id, pool.numBlocks));
    },
    hashOf: (id) => {
      checkOpen();
      return content.keyOf(checkBlockId(id, pool.numBlocks));
    },
    blockOfHash: (key) => {
      checkOpen();
      const id = content.find(key);
      return id === NULL_BLOCK ? undefined : id;
    },
    iterFreeBlockIdsWithHash: (within = Infinity) => {
      checkOpen();
      if (typeof within !== "number" || !(within >= 0))
        throw new RefusedError("invalid", `the distance is ${within}; allowed is 0 and more`);
      return scan.iterate(within, checkOpen);
    },
    lease: (ids, options) => ledger.lease(ids, options?.ttlMs),
    touchBlocks: (ids) => ledger.touch(ids),
    freeBlocks: (ids) => ledger.free(ids),
    markSafe: (ids) => {
      checkOpen();
      for (const id of readBlockIds(ids, pool.numBlocks)) if (content.has(id)) marks.set(id);
    },
    clearSafe: (keys) => {
      checkOpen();
      for (const key of readBlockKeys(keys))
        for (let id = content.first(key); id !== NULL_BLOCK; id = pool.findNext(id))
          marks.clear(id);
    },
  });
}

/** A copy of a connector's list. Throws `invalid` unless it is an array of block keys. */
function readBlockKeys(keys: unknown): BlockKey[] {
  if (!Array.isArray(keys))
    throw new RefusedError("invalid", `block keys are ${typeof keys}; allowed is an array`);
  const own: BlockKey[] = [];
  const { length } = keys;
  for (let i = 0; i < length; i++) {
    const key: unknown = keys[i];
    checkBlockKey(key);
    own.push(key);
  }
  return own;
}
