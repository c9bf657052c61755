/** Checked reading of one JSON record. Every error names the file, the place in it, the field, what it is and what is allowed. */

import { KvEngineError } from "../../../../engine/errors.ts";

/** Most tokens of a prompt, an output or a block: the option table's own bound. */
export const MAX_TOKENS = 16_777_216;

export class Fields {
  /** `trace.jsonl, line 7`. */
  readonly place: string;
  readonly #values: Readonly<Record<string, unknown>>;

  /** Throws `bad_config` where the text is no JSON object. */
  constructor(place: string, text: string) {
    this.place = place;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new KvEngineError("bad_config", `${place} is not JSON`, {
        subject: place,
        hint: "a last line may have been cut off: remove it then",
        cause,
      });
    }
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw wrongValue(place, "the record", value, "a JSON object");
    this.#values = { ...value };
  }

  has(name: string): boolean {
    const value = this.#values[name];
    return value !== undefined && value !== null;
  }

  integer(name: string, min: number, max: number): number {
    const value = this.#values[name];
    return isIntegerIn(value, min, max)
      ? value
      : this.#refuse(name, value, `an integer of ${min} to ${max}`);
  }

  /** A finite number of at least 0. */
  time(name: string): number {
    const value = this.#values[name];
    return typeof value === "number" && Number.isFinite(value) && value >= 0
      ? value
      : this.#refuse(name, value, "a number of at least 0");
  }

  text(name: string): string {
    const value = this.#values[name];
    return typeof value === "string" && value !== ""
      ? value
      : this.#refuse(name, value, "a string that is not empty");
  }

  integers(name: string, max: number): readonly number[] {
    const value = this.#values[name];
    if (!Array.isArray(value)) return this.#refuse(name, value, "an array of integers");
    const wrong = value.findIndex((one) => !isIntegerIn(one, 0, max));
    return wrong < 0
      ? value
      : this.#refuse(`${name}[${wrong}]`, value[wrong], `an integer of 0 to ${max}`);
  }

  array(name: string): readonly unknown[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value : this.#refuse(name, value, "an array");
  }

  #refuse(name: string, value: unknown, allowed: string): never {
    throw wrongValue(this.place, name, value, allowed);
  }
}

/** An error for a value in a data file. */
export function wrongValue(
  place: string,
  name: string,
  value: unknown,
  allowed: string,
): KvEngineError {
  const found = value === undefined ? "is missing" : `is ${shown(value)}`;
  return new KvEngineError("bad_config", `${place}: ${name} ${found}; allowed is ${allowed}`, {
    subject: place,
  });
}

function isIntegerIn(value: unknown, min: number, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
