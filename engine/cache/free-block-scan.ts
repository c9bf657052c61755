/** One connector's walk through the free blocks that have content and no copy, the next to be handed out first. */

import type { FreeBlock } from "../../connectors/block-pool-view.ts";
import { RefusedError } from "../../connectors/errors.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { CommittedContent } from "./committed-content.ts";
import { QueueCursor } from "./queue-cursor.ts";
import type { SafeMarks } from "./safe-marks.ts";

export class FreeBlockScan {
  readonly #pool: BlockPool;
  readonly #content: CommittedContent;
  readonly #marks: SafeMarks;
  readonly #cursor: QueueCursor;
  /** The pass that is open; the ones before it are over. */
  #pass = 0;

  constructor(pool: BlockPool, content: CommittedContent, marks: SafeMarks) {
    this.#pool = pool;
    this.#content = content;
    this.#marks = marks;
    this.#cursor = new QueueCursor(pool.numBlocks);
  }

  /** Blocks at a distance of `within` and more are left out. The pass begins, and the one before it ends, when it is first asked. */
  iterate(within: number, checkOpen: () => void): IterableIterator<FreeBlock> {
    let pass = 0;
    let isOver = false;
    const over = (): IteratorResult<FreeBlock> => {
      if (pass === this.#pass) this.close();
      isOver = true;
      return { done: true, value: undefined };
    };
    const iterator: IterableIterator<FreeBlock> = {
      next: () => {
        checkOpen();
        if (isOver) return over();
        if (pass === 0) {
          pass = ++this.#pass;
          this.#pool.openCursor(this.#cursor);
        }
        if (pass !== this.#pass)
          throw new RefusedError("closed", "a later iteration has begun; a view has one at a time");
        const value = this.#next(within);
        return value === undefined ? over() : { done: false, value };
      },
      return: over,
      [Symbol.iterator]: () => iterator,
    };
    return Object.freeze(iterator);
  }

  /** Ends the pass that is open. */
  close(): void {
    this.#pool.closeCursor(this.#cursor);
  }

  #next(within: number): FreeBlock | undefined {
    const pool = this.#pool;
    const cursor = this.#cursor;
    while (cursor.numPassed < within) {
      const id = pool.advance(cursor);
      if (id === NULL_BLOCK) return undefined;
      if (this.#marks.has(id) || pool.isFlying(id)) continue;
      const hash = this.#content.keyOf(id);
      // The cursor may have gone further than one place: it skips what the pass has come by before.
      const distance = cursor.numPassed - 1;
      if (hash !== undefined && distance < within) return { id, hash, distance };
    }
    return undefined;
  }
}
