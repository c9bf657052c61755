/** Workloads for tests: options as a command line would give them, files in memory, prompts as a server sees them. */

import type { DataSource } from "../../cli/bench/datasets/files/data-source.ts";
import { createWorkload, type WorkloadOptions } from "../../cli/bench/datasets/registry.ts";
import type { Answer, Prompt, Workload } from "../../cli/bench/types.ts";
import { isOptionName, resolveFlags } from "./flag-values.ts";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";

export type Flags = Readonly<Record<string, string | number | boolean>>;

/** The defaults of the table, but for these flags. */
export function workloadOptions(flags: Flags, seed = 0): WorkloadOptions {
  const given = Object.entries(flags).map(([name, value]) => {
    if (!isOptionName(name)) throw new Error(`there is no option ${name}`);
    return [name, typeof value === "number" ? String(value) : value] as const;
  });
  return { ...resolveFlags("bench serve", new Map(given)), seed };
}

export function workload(
  tokenizer: Tokenizer,
  name: string,
  flags: Flags = {},
  { text, seed }: { readonly text?: string; readonly seed?: number } = {},
): Workload {
  const source = text === undefined ? undefined : memorySource("data.jsonl", text);
  return createWorkload(name, workloadOptions(flags, seed), tokenizer, source);
}

export function memorySource(name: string, content: string | Uint8Array): DataSource {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return {
    name,
    size: bytes.length,
    read: (from, length) => bytes.subarray(from, from + length),
    close() {},
  };
}

/** The tokens that the engine gets of a prompt that is no chat. */
export function engineIds(tokenizer: Tokenizer, prompt: Prompt): number[] {
  switch (prompt.kind) {
    case "tokens":
      return [...prompt.tokenIds];
    case "text":
      return [...tokenizer.encode(prompt.text, { parseSpecial: true, addSpecial: true })];
    case "chat":
      throw new Error("a chat has no tokens without its template");
  }
}

/** Tokens of each message's content. */
export function contentLengths(tokenizer: Tokenizer, prompt: Prompt): number[] {
  if (prompt.kind !== "chat") throw new Error(`not a chat: ${prompt.kind}`);
  return prompt.messages.map(
    ({ content }) => tokenizer.encode(content, { parseSpecial: true }).length,
  );
}

/** First turns as the engine gets them. */
export function firstPrompts(tokenizer: Tokenizer, { conversations }: Workload): number[][] {
  return conversations.map(({ turns }) => engineIds(tokenizer, turns[0]!.prompt([])));
}

/** Length of the common beginning. */
export function commonPrefix(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/** The lengths of the common beginnings of all pairs, each once. */
export function commonPrefixes(prompts: readonly ArrayLike<number>[]): number[] {
  const found = new Set<number>();
  for (const [i, a] of prompts.entries())
    for (const b of prompts.slice(i + 1)) found.add(commonPrefix(a, b));
  return [...found].toSorted((a, b) => a - b);
}

/** An answer of `count` tokens. */
export function answerOf(tokenizer: Tokenizer, ids: readonly number[]): Answer {
  return { text: tokenizer.decode(ids), tokenIds: ids };
}

/** All that a workload sends and when, with the same answer to every turn: equal where workloads are. */
export function everything(workload: Workload, answer: Answer): unknown {
  return workload.conversations.map(({ id, at, turns }) => ({
    id,
    at,
    turns: turns.map((turn, index) => ({
      ...turn,
      prompt: turn.prompt(Array.from({ length: index }, () => answer)),
    })),
  }));
}
