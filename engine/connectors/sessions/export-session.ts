/** Writes a session's file: its pages first, some at a time, then the head that says which they are. Without it the file is none. */

import { open } from "node:fs/promises";
import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import type { PageId } from "../../../connectors/connector.ts";
import { KvEngineError } from "../../errors.ts";
import type { KnownSession } from "./known-sessions.ts";
import { pagesAt, recordBytes, writeHead } from "./session-file.ts";
import type { SessionTools } from "./session-tools.ts";

/** Answers the bytes of the file. Rejects with `not_found` where nothing of it is left, and with what writing says. */
export async function exportSession(
  session: KnownSession,
  path: string,
  tools: SessionTools,
): Promise<number> {
  const { model, moves, epochMs } = tools;
  const fingerprint = await tools.fingerprint();
  const about = {
    ...{ ...model, fingerprint, session: session.name },
    created: Math.floor(epochMs() / 1000),
    cache_salt_sha256: session.saltDigest,
  };
  const at = pagesAt(about, session.tokenIds.length);
  const size = recordBytes(model);
  const indices: number[] = [];
  for (let from = 0; from < session.keys.length; from += moves.piece) {
    const wanted = session.keys.slice(from, from + moves.piece);
    const there = await pagesOf(wanted, tools);
    if (there.length > 0) {
      const offsets = Float64Array.from(there, (_, i) => at + (indices.length + i) * size);
      const result = await moves.archive.write(
        { path, fingerprint, offsets },
        there.map(({ index }) => wanted[index] as BlockKey),
        there.map(({ page }) => page),
      );
      if (!result.ok)
        throw new KvEngineError(
          "unavailable",
          `the session cannot be written: ${result.error?.message ?? "it was given up"}`,
        );
      indices.push(...there.map(({ index }) => from + index));
    }
    // What follows a gap in the only group is of no use.
    if (model.groups === 1 && there.length < wanted.length) break;
  }
  const tokenIds =
    model.groups === 1
      ? session.tokenIds.slice(0, indices.length * model.block_size)
      : session.tokenIds;
  if (indices.length === 0)
    throw new KvEngineError("not_found", "nothing of the session's KV is left", {
      subject: "session",
      hint: "send its next message, and export it then",
    });
  const head = { ...about, pages_at: at, pages: "" };
  const file = await open(path, "r+");
  try {
    await file.write(writeHead({ head, tokenIds, indices }), 0, undefined, 0);
  } finally {
    await file.close();
  }
  return at + indices.length * size;
}

/** Of the leading keys, where the only group has them all, the pages; they are good until the next turn. */
async function pagesOf(
  keys: readonly BlockKey[],
  { moves, model }: SessionTools,
): Promise<readonly { readonly index: number; readonly page: PageId }[]> {
  const { content } = moves.server;
  await moves.until(
    () => content.bring(keys.filter((key) => content.pageOf(key) === undefined)).length,
  );
  const there: { index: number; page: PageId }[] = [];
  for (const [index, key] of keys.entries()) {
    const page = content.pageOf(key);
    if (page !== undefined) there.push({ index, page });
    else if (model.groups === 1) break;
  }
  return there;
}
