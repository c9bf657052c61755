/** What one row of the option table may say. */

/** Commands that take options, as written on the command line. */
export const COMMANDS = [
  "serve",
  "run",
  "chat",
  "bench engine",
  "bench serve",
  "bench throughput",
  "bench scheduler",
  "bench kv",
  "bench compare",
  "bench results",
  "demo",
  "explain",
  "kv pin",
  "kv unpin",
  "kv pins",
  "session ls",
  "session freeze",
  "session thaw",
  "session export",
  "session import",
  "inspect",
  "pull",
  "connectors",
  "connectors test",
  "connectors types",
  "doctor",
] as const;
export type CommandName = (typeof COMMANDS)[number];

/** What a group of options sets; also the headings of `--help`. */
export const GROUPS = [
  "engine",
  "connectors",
  "server",
  "sampling",
  "model",
  "bench",
  "dataset",
  "output",
] as const;
export type OptionGroup = (typeof GROUPS)[number];

interface OptionBase {
  /** The part of the program that reads it. */
  readonly group: OptionGroup;
  readonly commands: readonly CommandName[];
  /** One sentence without a full stop. */
  readonly help: string;
  /** A value that shows the notation. */
  readonly example: string;
  /** What is written after one dash: a letter, or several where llama.cpp has it so; unique among the options of each command. */
  readonly short?: string;
}

interface NumericOption extends OptionBase {
  /**
   * `bytes` also takes a unit (`512MiB`); `list` several integers joined by commas, and ranges of them (`integer-list.ts`);
   * `pair` two, the lower first; `pairs` any number of two. The flag of a `list` or of `pairs` may be given several times.
   */
  readonly type: "integer" | "number" | "bytes" | "list" | "pair" | "pairs";
  readonly default: number | readonly number[] | readonly (readonly [number, number])[];
  /** Of commands whose default is another one. */
  readonly defaults?: Readonly<Partial<Record<CommandName, number>>>;
  readonly min: number;
  readonly max: number;
  /** What one is: `tokens`, `seconds`. */
  readonly unit: string;
  /** What the default stands for, where it is a mark and not a value: `0` = all cores. */
  readonly meaning?: string;
}

interface ChoiceOption extends OptionBase {
  readonly type: "choice";
  readonly choices: readonly string[];
  readonly default: string;
  /** Of commands whose default is another one. */
  readonly defaults?: Readonly<Partial<Record<CommandName, string>>>;
}

interface TextOption extends OptionBase {
  readonly type: "text" | "path";
  /** Empty = none. */
  readonly default: string;
  /** What a value is called in `--help`. */
  readonly hint: string;
  /** Never printed. */
  readonly secret?: true;
}

/** A flag that may be given several times, in order. */
interface TextsOption extends OptionBase {
  readonly type: "texts";
  readonly default: readonly string[];
  /** What one of them is called in `--help`. */
  readonly hint: string;
  /** Never printed. */
  readonly secret?: true;
}

interface BooleanOption extends OptionBase {
  readonly type: "boolean";
  readonly default: boolean;
}

export type Option = NumericOption | ChoiceOption | TextOption | TextsOption | BooleanOption;

/** Options whose flag may be given several times; the values are taken together. */
export function isRepeatable({ type }: Pick<Option, "type">): boolean {
  return type === "list" || type === "pairs" || type === "texts";
}

/** What a command takes where nothing was written. */
export function defaultOf(option: Option, command: CommandName): Option["default"] {
  return ("defaults" in option ? option.defaults?.[command] : undefined) ?? option.default;
}
