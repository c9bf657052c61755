/** The `prompt` of completions, in its four forms. Checked by hand: it may be a hundred thousand token ids. */

import { MAX_UINT32, wrong } from "./field-checks.ts";

/** A text or token ids. */
export type Prompt = string | readonly number[];

const FORMS = "a string, an array of strings, an array of token ids or an array of such arrays";

/** At least one prompt. Throws `invalid_request` for other forms and for more than `maxPrompts`. */
export function readPrompts(prompt: unknown, maxPrompts: number): readonly Prompt[] {
  if (typeof prompt === "string") return [prompt];
  if (!Array.isArray(prompt)) throw wrong("prompt", prompt, FORMS);
  const items: readonly unknown[] = prompt;
  const first = items[0];
  if (items.length === 0) throw wrong("prompt", prompt, "at least one prompt or token id");
  if (typeof first === "number") return [tokenIds(items, "prompt")];
  if (items.length > maxPrompts)
    throw wrong("prompt", `${items.length} prompts`, `up to ${maxPrompts} prompts`);
  if (typeof first === "string") {
    return items.map((item, i) => {
      if (typeof item !== "string")
        throw wrong(`prompt[${i}]`, item, "a string, as the first prompt is one");
      return item;
    });
  }
  return items.map((item, i) => {
    if (!Array.isArray(item))
      throw wrong(
        i === 0 ? "prompt" : `prompt[${i}]`,
        item,
        i === 0 ? FORMS : "an array of token ids",
      );
    if (item.length === 0) throw wrong(`prompt[${i}]`, item, "at least one token id");
    return tokenIds(item, `prompt[${i}]`);
  });
}

function tokenIds(items: readonly unknown[], path: string): readonly number[] {
  for (let i = 0; i < items.length; i++) {
    const id = items[i];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > MAX_UINT32) {
      throw wrong(`${path}[${i}]`, id, "a token id");
    }
  }
  return items as readonly number[];
}
