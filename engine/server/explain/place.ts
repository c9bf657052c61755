/** Where in a prompt a token stands, in the words of whoever wrote the prompt. */

import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { partsOf, type PromptPart, type Rendering } from "./rendering.ts";

export type Place = {
  /** The token as it is written in the prompt; bytes that are no character are U+FFFD. */
  readonly text: string;
  /** Some of the prompt around the place. */
  readonly near: string;
  /** What the text there looks like. */
  readonly looksLike: "time" | "uuid" | undefined;
  /** `prompt`: a text or token ids. `unknown`: the template does not tell. */
} & (
  | { readonly part: "prompt" | "unknown" }
  | (PromptPart & {
      /** From the start of the part, in UTF-16 units. */
      readonly offset: number;
    })
);

/** Characters before and behind the place that are shown. */
const NEAR = 24;
/** Characters before and behind the place that belong to what it may be a part of. */
const AROUND = 48;

const MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*";
const LOOKS: readonly (readonly ["time" | "uuid", RegExp])[] = [
  ["uuid", /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi],
  ["time", /\b\d{4}-\d{2}-\d{2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?/g],
  ["time", /\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]\.?m\b)?/gi],
  ["time", new RegExp(String.raw`\b(?:\d{1,2}\.? ${MONTH}|${MONTH} \d{1,2}),?(?: \d{4})?\b`, "g")],
  ["time", /\b\d{1,2}[./]\d{1,2}[./]\d{4}\b/g],
  ["time", /\b1[0-9]{9}(?:\d{3})?\b/g],
];

/** `otherId`: the token that stands in its place in the prompt it is compared with. */
export function placeOf(
  tokenizer: Tokenizer,
  tokenIds: Int32Array,
  position: number,
  otherId: number | undefined,
  rendering: Rendering | undefined,
): Place {
  const written = Array.from(tokenIds.subarray(0, position + 1), (id) =>
    tokenizer.writtenBytes(id),
  );
  const own = written.at(-1) ?? new Uint8Array();
  const text = new TextDecoder().decode(own);
  const before = Buffer.concat(written.slice(0, -1));
  // The first byte that differs: tokens that begin alike may begin in another part.
  const others = otherId === undefined ? new Uint8Array() : tokenizer.writtenBytes(otherId);
  let same = 0;
  while (same < own.length - 1 && own[same] === others[same]) same++;
  const prompt = promptOf(rendering) ?? decodeAll(tokenizer, tokenIds);
  const at = offsetOf(prompt, Buffer.concat([before, own]), before.length + same);
  if (at === undefined) {
    const part = rendering === undefined ? "prompt" : "unknown";
    return { text, near: text, looksLike: undefined, part };
  }
  const looks = { text, near: around(prompt, at, NEAR), looksLike: looksLike(prompt, at) };
  if (rendering === undefined) return { ...looks, part: "prompt" };
  const part = partsOf(prompt, rendering).find(({ start, end }) => start <= at && at < end);
  return part === undefined
    ? { ...looks, part: "unknown" }
    : { ...looks, ...part, offset: at - part.start };
}

/** Undefined where the template does not render it a second time. */
function promptOf(rendering: Rendering | undefined): string | undefined {
  if (rendering === undefined) return undefined;
  try {
    return rendering.render(rendering.messages, rendering.tools);
  } catch {
    return undefined;
  }
}

function decodeAll(tokenizer: Tokenizer, tokenIds: Int32Array): string {
  return Buffer.concat(Array.from(tokenIds, (id) => tokenizer.writtenBytes(id))).toString("utf8");
}

/** The UTF-16 unit of the prompt at byte `byte`; undefined unless the prompt begins with `bytes`, as it is tokenised. */
function offsetOf(prompt: string, bytes: Buffer, byte: number): number | undefined {
  const all = Buffer.from(prompt);
  if (!all.subarray(0, bytes.length).equals(bytes)) return undefined;
  // Inside a character: its start.
  let start = byte;
  while (start > 0 && ((all[start] as number) & 0xc0) === 0x80) start--;
  return all.subarray(0, start).toString("utf8").length;
}

function around(prompt: string, at: number, length: number): string {
  return prompt.slice(Math.max(0, at - length), at + length).toWellFormed();
}

function looksLike(prompt: string, at: number): Place["looksLike"] {
  const from = Math.max(0, at - AROUND);
  const text = prompt.slice(from, at + AROUND);
  for (const [kind, pattern] of LOOKS)
    for (const match of text.matchAll(pattern))
      if (from + match.index <= at && at < from + match.index + match[0].length) return kind;
  return undefined;
}
