/** Which recorded requests continue others: their prompts begin with the blocks of another's prompt and output. */

import type { RecordedRow } from "./recorded.ts";

/** Arrivals are recorded in whole milliseconds. */
const CLOCK_MS = 1;

type Rows = [RecordedRow, ...RecordedRow[]];

export interface Joined {
  /** By arrival of their first requests, each in the order of its turns. */
  readonly conversations: readonly (readonly [RecordedRow, ...RecordedRow[]])[];
  /** Requests that continue one that another has continued: they begin a conversation, with an answer that is not this run's. */
  readonly branches: number;
}

export function joinFollowUps(rows: readonly RecordedRow[]): Joined {
  const conversations: Rows[] = [];
  /** Conversations by the hash of the last block that they fill, where an answer is in it or before it. */
  const open = new Map<number, Rows[]>();
  /** Hashes that were in `open` and are not, because the conversation went on. */
  const passed = new Set<number>();
  let branches = 0;
  for (const row of rows.toSorted((a, b) => a.timeMs - b.timeMs)) {
    const before = findBefore(row, open);
    if (before === undefined) {
      if (row.hashes.some((hash) => passed.has(hash))) branches++;
      conversations.push([row]);
    } else {
      const key = lastHash(before);
      if (key !== undefined) passed.add(key);
      remove(open, key, before);
      before.push(row);
    }
    const own = before ?? (conversations.at(-1) as Rows);
    const key = lastHash(own);
    if (key !== undefined) open.set(key, [...(open.get(key) ?? []), own]);
  }
  return { conversations, branches };
}

/** The conversation that this request continues: the longest one that had ended, of equals the latest. */
function findBefore(
  row: RecordedRow,
  open: ReadonlyMap<number, readonly Rows[]>,
): Rows | undefined {
  for (let block = Math.floor(row.inputLen / row.blockSize) - 1; block >= 0; block--) {
    const candidates = open.get(row.hashes[block] as number) ?? [];
    const before = candidates.findLast((rows) => {
      const last = rows.at(-1) as RecordedRow;
      return last.endMs <= row.timeMs + CLOCK_MS && last.blockSize === row.blockSize;
    });
    if (before !== undefined) return before;
  }
  return undefined;
}

/** Undefined where no answer filled a block yet: then a later prompt cannot be told from one that only begins alike. */
function lastHash(rows: Rows): number | undefined {
  const { outputHashes, hashes, inputLen, blockSize } = rows.at(-1) as RecordedRow;
  if (outputHashes.length > 0) return outputHashes.at(-1);
  // A later prompt holds the answers before it.
  return rows.length > 1 ? hashes[Math.floor(inputLen / blockSize) - 1] : undefined;
}

function remove(open: Map<number, Rows[]>, key: number | undefined, rows: Rows): void {
  if (key === undefined) return;
  const left = (open.get(key) ?? []).filter((one) => one !== rows);
  if (left.length === 0) open.delete(key);
  else open.set(key, left);
}
