/** Reads a session's pages to host pages, some at a time, as what its tokens say that they are. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import type { FlightResult } from "../../cache/page-transfers.ts";
import { KvEngineError } from "../../errors.ts";
import { damaged } from "./sealed-head.ts";
import { recordBytes, type SessionContent } from "./session-file.ts";
import type { SessionTools } from "./session-tools.ts";

/** `keys`: of the session's tokens. Rejects with `invalid_request` where pages are not what was written, and `unavailable` where there is no room. */
export async function importPages(
  { head, indices }: SessionContent,
  keys: readonly BlockKey[],
  path: string,
  tools: SessionTools,
): Promise<void> {
  const { disk, moves } = tools;
  const size = recordBytes(head);
  const records = indices.map((index, place) => ({
    key: keys[index] as BlockKey,
    offset: head.pages_at + place * size,
  }));
  let rest = records;
  while (rest.length > 0) {
    const some = rest.slice(0, moves.piece);
    const numRead = await readSome(some, head.fingerprint, path, tools);
    rest = rest.slice(numRead);
    // The host may be smaller than the session: what is read goes on to the disk.
    if (disk !== undefined) await written(some.slice(0, numRead), disk, tools);
  }
}

interface PageRecord {
  readonly key: BlockKey;
  readonly offset: number;
}

/** Answers how many of the records are there now; 0 = try again. */
async function readSome(
  records: readonly PageRecord[],
  fingerprint: string,
  path: string,
  { moves, disk }: SessionTools,
): Promise<number> {
  const { content, place } = moves.server;
  const onDisk = disk?.has(records.map(({ key }) => key)) ?? [];
  const isThere = ({ key }: PageRecord, i: number): boolean =>
    onDisk[i] === true || content.pageOf(key) !== undefined;
  const missing = records.filter((record, i) => !isThere(record, i));
  if (missing.length === 0) return records.length;
  // One that is being filled for a request is waited for.
  await moves.until(() => content.bring(missing.map(({ key }) => key)).length);
  const wanted = missing.filter(({ key }) => content.pageOf(key) === undefined);
  if (wanted.length === 0) return records.length;
  const pages = content.take(wanted.map(({ key }) => key));
  if (pages.length === 0 && (await moves.hasGrown())) return 0;
  if (pages.length === 0)
    throw new KvEngineError("unavailable", "the host's memory has no page free for the session", {
      hint: "try again later, or start the server with a larger --kv-offload-size",
    });
  const some = wanted.slice(0, pages.length);
  const { archive } = moves;
  const { epoch } = archive;
  const offsets = Float64Array.from(some, ({ offset }) => offset);
  const names = some.map(({ key }) => key);
  let result: FlightResult;
  try {
    result = await archive.read(place, { path, fingerprint, offsets }, names, pages);
  } catch (thrown) {
    for (const key of names) content.drop(key);
    throw thrown;
  }
  if (archive.epoch !== epoch)
    throw new KvEngineError("unavailable", "the cache was reset while the session was read");
  const failed = new Set(result.cancelled ? some.keys() : result.failedPages);
  content.filled(some.flatMap(({ key }, i) => (failed.has(i) ? [] : [key])));
  for (const i of failed) content.drop((some[i] as PageRecord).key);
  if (failed.size > 0)
    throw damaged(
      `${failed.size} of its pages are not what was written (${result.error?.message ?? ""})`,
    );
  const last = some.at(-1) as PageRecord;
  return some.length === wanted.length ? records.length : records.indexOf(last) + 1;
}

async function written(
  records: readonly PageRecord[],
  disk: NonNullable<SessionTools["disk"]>,
  { moves }: SessionTools,
): Promise<void> {
  const { content } = moves.server;
  const keys = records.map(({ key }) => key);
  const left = await moves.until(() => {
    const has = disk.has(keys);
    const missing = keys.filter((key, i) => has[i] !== true && content.pageOf(key) !== undefined);
    content.keep(missing);
    return missing.length;
  });
  if (left > 0)
    throw new KvEngineError(
      "unavailable",
      `${left} pages of the session could not be written to the disk`,
    );
}
