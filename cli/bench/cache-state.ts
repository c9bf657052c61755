/** What is in the prefix cache before a run, and who saw to it. */

import { KvEngineError } from "../../engine/errors.ts";
import { resetCache } from "./http/cache-reset.ts";
import type { OpenSide } from "./servers/open-side.ts";
import type { CacheState } from "./types.ts";

export interface PreparedCache {
  readonly state: CacheState;
  readonly warnings: readonly string[];
}

/**
 * Brings the cache into the state that is wanted. A server that has just been started has an empty one. Throws what the server says
 * where `cold` is asked for and cannot be had; with `auto` that is a warning.
 * @param fill sends the workload once.
 */
export async function prepareCache(
  open: OpenSide,
  wanted: CacheState | "auto",
  fill: () => Promise<void>,
): Promise<PreparedCache> {
  const fresh = open.command !== undefined && !open.used;
  const state = wanted === "auto" ? (open.command === undefined ? "uncontrolled" : "cold") : wanted;
  switch (state) {
    case "uncontrolled":
      return { state, warnings: [] };
    case "warm":
      await fill();
      return { state, warnings: [] };
    case "cold":
      return fresh ? { state, warnings: [] } : empty(open, wanted === "auto");
  }
}

async function empty({ target }: OpenSide, lenient: boolean): Promise<PreparedCache> {
  try {
    const note = await resetCache(target);
    return note === undefined
      ? { state: "cold", warnings: [] }
      : { state: "uncontrolled", warnings: [note] };
  } catch (thrown) {
    if (!lenient || !(thrown instanceof KvEngineError)) throw thrown;
    return { state: "uncontrolled", warnings: [thrown.message] };
  }
}
