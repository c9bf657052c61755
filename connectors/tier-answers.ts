/** What tiers may answer. Each function throws a `TypeError` that says what is allowed. */

import { showValue } from "./safe-text.ts";

/** Of `store` and `load`. */
export function readBoolean(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw new TypeError(`answered ${showValue(answer)}; allowed is true or false`);
}

/** Of `has` for `length` keys: a copy. */
export function readHas(length: number): (answer: unknown) => readonly boolean[] {
  return (answer) => {
    if (!Array.isArray(answer))
      throw new TypeError(
        `answered ${showValue(answer)}; allowed is an array of ${length} booleans`,
      );
    if (answer.length !== length)
      throw new TypeError(`answered ${answer.length} values for ${length} keys`);
    return Array.from({ length }, (_, i) => readBoolean(answer[i]));
  };
}
