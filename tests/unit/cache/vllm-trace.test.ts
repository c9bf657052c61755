/** Traces recorded from vLLM 0.33.0's KVCacheManager, replayed operation by operation. */

import { describe, expect, test } from "bun:test";
import { type GroupSpec, KvCache } from "../../../engine/cache/kv-cache.ts";
import { CachedSequence, FULL, windowOf } from "../../support/cached-sequence.ts";
import full24 from "../../vectors/vllm/vllm-kv-manager-trace-full-24.json";
import full64 from "../../vectors/vllm/vllm-kv-manager-trace-full-64.json";
import hybrid48 from "../../vectors/vllm/vllm-kv-manager-trace-hybrid-48.json";

interface Operation {
  readonly op: string;
  readonly id: string;
  readonly tokens?: readonly number[];
  readonly cache_salt?: string | null;
  readonly hit_tokens?: number;
  readonly hit_blocks?: readonly (readonly number[])[];
  readonly token?: number;
  readonly ok?: boolean;
  readonly blocks?: readonly (readonly number[])[] | null;
  readonly free_queue?: readonly number[];
}

interface Trace {
  readonly block_size: number;
  readonly num_blocks: number;
  readonly groups: readonly string[];
  readonly ops: readonly Operation[];
}

const TRACES: [name: string, trace: Trace][] = [
  ["full attention, 24 blocks", full24],
  ["full attention, 64 blocks", full64],
  // Equal in everything, ids included: the groups take blocks one after the other, in the same order as vLLM's managers. Ids would
  // differ in a model where vLLM's groups have blocks of different sizes; ours are of one size.
  ["full attention and a window of 8, 48 blocks", hybrid48],
];

function specOf(name: string): GroupSpec {
  const [kind, window] = name.split(" ");
  return kind === "window" ? windowOf(Number(window)) : FULL;
}

describe("replaying vLLM", () => {
  test.each(TRACES)("%s: hits, ids and the whole eviction order are equal (I5, I6)", (_, trace) => {
    const cache = new KvCache({
      numBlocks: trace.num_blocks,
      blockSize: trace.block_size,
      groups: trace.groups.map(specOf),
      prefixCaching: true,
    });
    const running = new Map<string, CachedSequence>();
    for (const [index, operation] of trace.ops.entries()) {
      const before = cache.pool.freeIds();
      const got = play(cache, running, operation);
      const { op, hit_tokens, hit_blocks, ok, blocks, free_queue } = operation;
      const expected = { index, op, hit_tokens, hit_blocks, ok, blocks };
      expect<object>({ index, op, ...got }).toEqual(expected);
      if (free_queue !== undefined) expect(cache.pool.freeIds()).toEqual([...free_queue]);
      if (ok === false && op === "start") expect(cache.pool.freeIds()).toEqual(before);
      cache.checkIntegrity([...running.values()].map(({ blocks }) => blocks));
    }
  });
});

/** Does an operation; answers what the trace says of it. */
function play(
  cache: KvCache,
  running: Map<string, CachedSequence>,
  { op, id, tokens, cache_salt, token }: Operation,
): Pick<Operation, "hit_tokens" | "hit_blocks" | "ok" | "blocks"> {
  if (op === "start") {
    const sequence = new CachedSequence(cache, tokens ?? [], { salt: cache_salt ?? undefined });
    const most = Math.floor((sequence.tokens.length - 1) / cache.blockSize);
    const { numBlocks, found } = cache.match(sequence.blocks, most);
    const hits = found.map((ids) => Array.from(ids.subarray(0, numBlocks)));
    const ok = sequence.start();
    if (ok) running.set(id, sequence);
    const blocks = ok ? sequence.ids : null;
    return { hit_tokens: sequence.numHitTokens, hit_blocks: hits, ok, blocks };
  }
  const sequence = running.get(id);
  if (sequence === undefined) throw new Error(`${id} does not run`);
  if (op === "decode") {
    const ok = sequence.decode(token ?? 0);
    return { ok, blocks: sequence.ids };
  }
  sequence.release();
  running.delete(id);
  return {};
}
