/** What checks of body fields are made of. What a field may hold is also its description in `/openapi.json`. Every error names the field, what was found and what is allowed. */

import { z } from "zod";
import { KvEngineError } from "../errors.ts";

export const MAX_UINT32 = 4_294_967_295;

/** A field that may be left out. */
export type Field<T> = z.ZodType<T | null | undefined>;

/** The message of a schema: what is allowed. */
export const says = (text: string): { error: string } => ({ error: text });

export const numberIn = (min: number, max: number, text: string): Field<number> =>
  z.number(says(text)).min(min, says(text)).max(max, says(text)).nullish().describe(text);

export const integerIn = (min: number, max: number, text: string): Field<number> =>
  z.int(says(text)).min(min, says(text)).max(max, says(text)).nullish().describe(text);

export const flag: Field<boolean> = z.boolean(says("true or false")).nullish();

const tokenId = z.int(says("a token id")).min(0, says("a token id"));

/** From `min` to `max` token ids; whether the vocabulary has them is asked later. */
export const tokenIdList = (min: number, max: number): z.ZodType<number[] | null | undefined> => {
  const text = min === 0 ? `up to ${max} token ids` : `${min} to ${max} token ids`;
  return z
    .array(tokenId, says("an array of token ids"))
    .min(min, says(text))
    .max(max, says(text))
    .nullish();
};

export function given<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/** A field that has a wrong value, or none where one is needed. */
export function wrong(path: string, value: unknown, allowed: string): KvEngineError {
  const verdict = value === undefined ? "is missing" : `is ${show(value)}`;
  return new KvEngineError("invalid_request", `${path} ${verdict}; allowed is ${allowed}`, {
    subject: path,
  });
}

/** A short form of any JSON value. */
function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `an array of ${value.length}`;
  if (typeof value === "object" && value !== null)
    return Object.keys(value).length === 0 ? "{}" : "an object";
  if (typeof value === "bigint") return String(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** `messages[0].content` */
export function fieldPath(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) =>
      typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`,
    )
    .join("");
}
