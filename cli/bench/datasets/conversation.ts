/** A conversation from what its user's side says. */

import type { Conversation, Turn } from "../types.ts";
import type { Message, PromptWriter } from "./prompt-writer.ts";

export interface TurnScript {
  /** What is said since the answer before. */
  readonly messages: readonly Message[];
  readonly maxTokens: number;
  /** Milliseconds; default 0. */
  readonly thinkTimeMs?: number;
}

export interface ConversationScript {
  readonly id: string;
  /** Milliseconds after the first; `undefined` = not timed. */
  readonly at?: number | undefined;
  readonly turns: readonly TurnScript[];
  readonly ignoreEos: boolean;
}

export function conversation(
  writer: PromptWriter,
  { id, at, turns, ignoreEos }: ConversationScript,
): Conversation {
  const said = turns.map(({ messages }) => messages);
  return {
    id,
    ...(at === undefined ? {} : { at }),
    turns: turns.map(({ messages, maxTokens, thinkTimeMs = 0 }, index): Turn => {
      // Later prompts hold answers, whose tokens nobody knows yet.
      const known = index === 0 ? writer.numPromptTokens(messages) : undefined;
      return {
        thinkTimeMs,
        maxTokens,
        ignoreEos,
        ...(known === undefined ? {} : { numPromptTokens: known }),
        prompt: (before) => writer.write(said.slice(0, index + 1), before),
      };
    }),
  };
}

/** A prompt that one user message asks. */
export function question(...pieces: Message["pieces"]): readonly Message[] {
  return [{ role: "user", pieces }];
}
