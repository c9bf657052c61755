/** The sessions of an engine, from what the engine is made of. */

import { HASH_WORDS } from "../../cache/block-hash.ts";
import { blockKey, readBlockKey } from "../../cache/block-key.ts";
import { type BlockPool, NULL_BLOCK } from "../../cache/block-pool.ts";
import type { EngineInfo } from "../../request.ts";
import type { SessionPrompts } from "./known-sessions.ts";
import { Sessions } from "./sessions.ts";
import type { SessionTools } from "./session-tools.ts";

export interface OpenSessionsOptions extends Pick<
  SessionTools,
  "moves" | "retained" | "disk" | "diskPins" | "records" | "now" | "epochMs" | "fingerprint"
> {
  readonly pool: Pick<BlockPool, "find">;
  readonly info: Pick<
    EngineInfo,
    "modelName" | "pageLayout" | "kvCacheDtype" | "blockSize" | "vocabSize"
  > & { readonly numGroups: number; readonly pageBytes: number };
  /** Of the full blocks of these tokens, 8 words each. */
  readonly hashes: (tokenIds: Int32Array, cacheSalt: string | undefined) => Int32Array;
}

/** `prompts`: the requests that are remembered, where any are. */
export function openSessions(
  prompts: SessionPrompts | undefined,
  { pool, info, hashes, fingerprint, ...tools }: OpenSessionsOptions,
): Sessions {
  const { numGroups, pageBytes } = info;
  const words = new Int32Array(HASH_WORDS);
  let known: string | undefined;
  return new Sessions(prompts, {
    ...tools,
    // The model's files are read once.
    fingerprint: async () => (known ??= await fingerprint()),
    model: {
      model: info.modelName,
      layout: info.pageLayout,
      kv_dtype: info.kvCacheDtype,
      block_size: info.blockSize,
      groups: numGroups,
      page_bytes: pageBytes,
    },
    vocabSize: info.vocabSize,
    keysOf(tokenIds, cacheSalt) {
      const all = hashes(tokenIds, cacheSalt);
      return Array.from({ length: (all.length / HASH_WORDS) * numGroups }, (_, i) =>
        blockKey(all, Math.floor(i / numGroups) * HASH_WORDS, i % numGroups),
      );
    },
    isOnDevice(key) {
      const group = readBlockKey(key, words);
      return pool.find(words, 0, group) !== NULL_BLOCK;
    },
  });
}
