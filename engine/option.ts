/** What one row of the option table may say. */

/** Commands that take options, as written on the command line. */
export const COMMANDS = [
  "serve",
  "run",
  "chat",
  "bench engine",
  "bench scheduler",
  "bench compare",
  "inspect",
  "pull",
  "doctor",
] as const;
export type CommandName = (typeof COMMANDS)[number];

/** What a group of options sets; also the headings of `--help`. */
export const GROUPS = ["engine", "server", "sampling", "model", "bench", "output"] as const;
export type OptionGroup = (typeof GROUPS)[number];

interface OptionBase {
  /** The part of the program that reads it. */
  readonly group: OptionGroup;
  readonly commands: readonly CommandName[];
  /** One sentence without a full stop. */
  readonly help: string;
  /** A value that shows the notation. */
  readonly example: string;
  /** One letter, unique among the options of each command. */
  readonly short?: string;
}

interface NumericOption extends OptionBase {
  /** `bytes` also takes a unit (`512MiB`), `list` several integers joined by commas, `pair` two, the lower first. */
  readonly type: "integer" | "number" | "bytes" | "list" | "pair";
  readonly default: number | readonly number[];
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

interface BooleanOption extends OptionBase {
  readonly type: "boolean";
  readonly default: boolean;
}

export type Option = NumericOption | ChoiceOption | TextOption | BooleanOption;
