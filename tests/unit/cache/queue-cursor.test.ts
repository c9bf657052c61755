import { expect, test } from "bun:test";
import type { BlockPool } from "../../../engine/cache/block-pool.ts";
import { QueueCursor } from "../../../engine/cache/queue-cursor.ts";
import { free, touch } from "../../support/cached-sequence.ts";
import { cachedPool } from "../../support/connector-blocks.ts";

/** Ids that a pass comes by while its first two blocks are put to the end of the queue. */
function passOver(pool: BlockPool, cursor: QueueCursor): number[] {
  const ids: number[] = [];
  pool.openCursor(cursor);
  for (let id = pool.advance(cursor); id !== 0; id = pool.advance(cursor)) {
    ids.push(id);
    if (ids.length > 2) continue;
    touch(pool, [id]);
    free(pool, [id]);
  }
  pool.closeCursor(cursor);
  return ids;
}

test("a pass sees each block once, also when the numbers of passes begin again", () => {
  const pool = cachedPool(6);
  const cursor = new QueueCursor(pool.numBlocks, 3);
  for (let pass = 0; pass < 12; pass++) {
    // A block that was out for two passes bears the number that the third one gets again.
    const [out] = pool.freeIds().slice(-1);
    const isOut = pass % 3 !== 0;
    if (isOut) touch(pool, [out!]);
    const expected = pool.freeIds();
    expect(passOver(pool, cursor)).toEqual(expected);
    pool.checkIntegrity();
    if (isOut) free(pool, [out!]);
  }
});
