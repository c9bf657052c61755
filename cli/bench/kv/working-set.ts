/** How many KV blocks a workload comes back to: what a cache must hold to find all that was there before. */

import { hashBlocks, noneHash } from "../../../engine/runner/native.ts";
import type { Answer, Conversation, Prompt, Workload } from "../types.ts";

export interface WorkingSet {
  /** Whole blocks that more than one prompt begins with. */
  readonly blocks: number;
  /** Blocks that all prompts and answers fill. */
  readonly total: number;
  /** Blocks of the longest prompt with its answer. */
  readonly longest: number;
}

/** @param encode the tokens of a prompt, as the engine gets them. */
export function workingSetOf(
  workload: Pick<Workload, "conversations">,
  encode: (prompt: Prompt) => Int32Array,
  blockSize: number,
): WorkingSet {
  const uses = new Map<string, number>();
  const root = noneHash("0");
  let longest = 0;
  let numOwn = 0;
  for (const conversation of workload.conversations) {
    for (const { prompt, maxTokens } of promptsOf(conversation)) {
      const tokenIds = encode(prompt);
      numOwn += 1 + Math.ceil(maxTokens / blockSize);
      longest = Math.max(longest, Math.ceil((tokenIds.length + maxTokens) / blockSize));
      const hashes = hashBlocks(root, tokenIds, blockSize);
      for (let at = 0; at < hashes.length; at += HASH_WORDS) {
        const key = hashes.subarray(at, at + HASH_WORDS).join();
        uses.set(key, (uses.get(key) ?? 0) + 1);
      }
    }
  }
  const blocks = [...uses.values()].filter((count) => count > 1).length;
  return { blocks, total: uses.size + numOwn, longest };
}

/** Words of a block's hash. */
const HASH_WORDS = 8;

/** With made-up answers of full length, which fill as many blocks as the real ones. */
function* promptsOf({
  turns,
}: Conversation): Generator<{ readonly prompt: Prompt; readonly maxTokens: number }> {
  const before: Answer[] = [];
  for (const turn of turns) {
    const { maxTokens } = turn;
    yield { prompt: turn.prompt(before), maxTokens };
    before.push({ text: " a".repeat(maxTokens), tokenIds: Array<number>(maxTokens).fill(0) });
  }
}
