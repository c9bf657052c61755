/**
 * `cache_control` of bodies, as Anthropic's API has it: a mark at a text, at a message or at the whole prompt says that all up to there
 * is wanted again soon. Each becomes a pin, as far as the budget for pins goes; what is not kept is computed again, and nothing fails.
 */

import { z } from "zod";
import { type Field, given, says, wrong } from "./field-checks.ts";
import { partsOf, type Rendering } from "./explain/rendering.ts";

const TTL_MS = { "5m": 300_000, "1h": 3_600_000 } as const;
/** Of one request. */
const MOST_MARKS = 4;
const ALLOWED = '{"type": "ephemeral"}, with a ttl of "5m" (the default) or "1h"';

export interface CacheControl {
  readonly type: "ephemeral";
  readonly ttl?: keyof typeof TTL_MS | null | undefined;
}

export const cacheControl: Field<CacheControl> = z
  .strictObject(
    {
      type: z.literal("ephemeral", says('"ephemeral"')),
      ttl: z.enum(["5m", "1h"], says('"5m" or "1h"')).nullish(),
    },
    says(ALLOWED),
  )
  .nullish();

export function ttlMsOf({ ttl }: CacheControl): number {
  return TTL_MS[ttl ?? "5m"];
}

/** A mark in a message. */
export interface CacheMark {
  /** From the start of its content, in UTF-16 units. */
  readonly offset: number;
  readonly ttlMs: number;
}

/** Marks go with messages where templates do not see them. */
const MARKS: unique symbol = Symbol("cache marks");

export interface MarkedMessage {
  readonly [MARKS]?: readonly CacheMark[];
}

interface MarkedPart {
  readonly text: string;
  readonly cache_control?: CacheControl | null | undefined;
}

/** The marks of a message whose parts are joined by line breaks, for its form that templates get. */
export function marked(
  content: string | readonly MarkedPart[] | null | undefined,
  own: CacheControl | null | undefined,
): MarkedMessage {
  const marks: CacheMark[] = [];
  let end = 0;
  for (const [i, part] of (typeof content === "string" ? [] : (content ?? [])).entries()) {
    end += part.text.length + (i === 0 ? 0 : 1);
    if (given(part.cache_control)) marks.push({ offset: end, ttlMs: ttlMsOf(part.cache_control) });
  }
  if (given(own)) marks.push({ offset: Infinity, ttlMs: ttlMsOf(own) });
  return marks.length === 0 ? {} : { [MARKS]: marks };
}

/** Of two messages that become one, of whose contents one is empty. */
export function joinedMarks(first: MarkedMessage, second: MarkedMessage): MarkedMessage {
  const marks = [...(first[MARKS] ?? []), ...(second[MARKS] ?? [])];
  return marks.length === 0 ? {} : { [MARKS]: marks };
}

export function withoutMarks<T extends object>(message: T): T {
  return MARKS in message ? { ...message, [MARKS]: undefined } : message;
}

/** What is to be pinned of a prompt. */
export interface PromptPin {
  /** Leading tokens. */
  readonly numTokens: number;
  readonly ttlMs: number;
}

interface MarkedPrompt {
  readonly text: string;
  readonly tokenIds: Int32Array;
  readonly rendering: Rendering;
}

/**
 * The pins of a conversation's marks: tokens that are the same whatever follows the mark. A mark whose place in the prompt the template
 * does not tell pins nothing. Throws `invalid_request` for too many.
 */
export function pinsOf(
  { text, tokenIds, rendering }: MarkedPrompt,
  messages: readonly MarkedMessage[],
  encode: (text: string) => Int32Array,
): readonly PromptPin[] {
  const marks = messages.flatMap(({ [MARKS]: own = [] }, message) =>
    own.map((mark) => ({ ...mark, message })),
  );
  if (marks.length === 0) return [];
  if (marks.length > MOST_MARKS)
    throw wrong("cache_control", marks.length, `at most ${MOST_MARKS} marks in one request`);
  const parts = partsOf(text, rendering);
  return marks.flatMap(({ message, offset, ttlMs }) => {
    const part = parts.findLast(
      (one) => one.part === "message" && one.message === message && one.field === "content",
    );
    if (part === undefined) return [];
    const end = Math.min(part.end, part.start + offset);
    const numTokens = commonLength(encode(text.slice(0, end)), tokenIds);
    return numTokens === 0 ? [] : [{ numTokens, ttlMs }];
  });
}

function commonLength(a: Int32Array, b: Int32Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
