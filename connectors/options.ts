/** What a connector's options may be, as a table, so that they are checked, listed and documented in one place. */

import { RefusedError } from "./errors.ts";

interface OptionBase {
  /** One sentence without a full stop. */
  readonly help: string;
}

export type ConnectorOption =
  | (OptionBase & {
      readonly type: "integer" | "number" | "bytes";
      readonly default: number;
      readonly min: number;
      readonly max: number;
      /** What one is: `blocks`, `ms`. */
      readonly unit?: string;
    })
  | (OptionBase & { readonly type: "boolean"; readonly default: boolean })
  | (OptionBase & { readonly type: "text"; readonly default: string })
  | (OptionBase & {
      readonly type: "choice";
      readonly choices: readonly string[];
      readonly default: string;
    });

export type ConnectorOptions = Readonly<Record<string, ConnectorOption>>;

/** One value for each row of the table. */
export type OptionValues = Readonly<Record<string, number | boolean | string>>;

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Checks what was given against the table; what is left out has its default. Throws `invalid`, naming option and what is allowed. */
export function parseOptions(table: ConnectorOptions, given: unknown): OptionValues {
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new RefusedError("invalid", "connector options must be an object");
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(table, name)) continue;
    const names = Object.keys(table).join(", ");
    throw new RefusedError(
      "invalid",
      `there is no option \`${name}\`; ${names === "" ? "it takes none" : `allowed are ${names}`}`,
    );
  }
  const values: Record<string, number | boolean | string> = {};
  for (const [name, option] of Object.entries(table)) {
    const value = (given as Record<string, unknown>)[name];
    values[name] = value === undefined ? option.default : parseOption(name, option, value);
  }
  return values;
}

function parseOption(
  name: string,
  option: ConnectorOption,
  value: unknown,
): number | boolean | string {
  switch (option.type) {
    case "boolean":
      if (typeof value === "boolean") return value;
      throw wrong(name, value, "true or false");
    case "text":
      if (typeof value === "string") return value;
      throw wrong(name, value, "text");
    case "choice":
      if (typeof value === "string" && option.choices.includes(value)) return value;
      throw wrong(name, value, option.choices.join(", "));
    case "integer":
    case "number":
    case "bytes": {
      const number = option.type === "bytes" ? bytesOf(value) : value;
      const { min, max, unit = "" } = option;
      const isWhole = option.type === "number" || Number.isInteger(number);
      if (typeof number === "number" && isWhole && number >= min && number <= max) return number;
      const kind =
        option.type === "number" ? "a number" : option.type === "bytes" ? "a size" : "an integer";
      throw wrong(name, value, `${kind} from ${min} to ${max}${unit === "" ? "" : ` ${unit}`}`);
    }
  }
}

/** Plain bytes, or text with a unit: `512MiB`. */
function bytesOf(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(value.trim()) ?? [];
  const scale = UNITS[unit];
  return number === undefined || scale === undefined ? value : Math.round(Number(number) * scale);
}

function wrong(name: string, value: unknown, allowed: string): RefusedError {
  return new RefusedError(
    "invalid",
    `option \`${name}\` is ${JSON.stringify(value)}; allowed is ${allowed}`,
  );
}
