/**
 * THE option table. Flags, `KVENGINE_*` variables, config file keys, `--help`, the README's table and the types below
 * are all derived from it: an option is one row in a file of `options/` and nothing else. Knows no disk, no device and no
 * command line.
 */

import type { CommandName, Option, OptionGroup } from "./option.ts";
import { BENCH_DATA_OPTIONS } from "./options/bench-data-options.ts";
import { BENCH_KV_OPTIONS } from "./options/bench-kv-options.ts";
import { BENCH_LOAD_OPTIONS } from "./options/bench-load-options.ts";
import { BENCH_OPTIONS } from "./options/bench-options.ts";
import { BENCH_PROMPT_OPTIONS } from "./options/bench-prompt-options.ts";
import { BENCH_REPORT_OPTIONS } from "./options/bench-report-options.ts";
import { BENCH_RESULTS_OPTIONS } from "./options/bench-results-options.ts";
import { BENCH_SERVE_OPTIONS } from "./options/bench-serve-options.ts";
import { CONNECTOR_OPTIONS } from "./options/connector-options.ts";
import { ENGINE_OPTIONS } from "./options/engine-options.ts";
import { MODEL_OPTIONS } from "./options/model-options.ts";
import { OUTPUT_OPTIONS } from "./options/output-options.ts";
import { SAMPLING_OPTIONS } from "./options/sampling-options.ts";
import { SERVER_OPTIONS } from "./options/server-options.ts";

export const OPTIONS: typeof ENGINE_OPTIONS &
  typeof CONNECTOR_OPTIONS &
  typeof SERVER_OPTIONS &
  typeof MODEL_OPTIONS &
  typeof SAMPLING_OPTIONS &
  typeof BENCH_OPTIONS &
  typeof BENCH_LOAD_OPTIONS &
  typeof BENCH_SERVE_OPTIONS &
  typeof BENCH_DATA_OPTIONS &
  typeof BENCH_PROMPT_OPTIONS &
  typeof BENCH_REPORT_OPTIONS &
  typeof BENCH_KV_OPTIONS &
  typeof BENCH_RESULTS_OPTIONS &
  typeof OUTPUT_OPTIONS = {
  ...ENGINE_OPTIONS,
  ...CONNECTOR_OPTIONS,
  ...SERVER_OPTIONS,
  ...MODEL_OPTIONS,
  ...SAMPLING_OPTIONS,
  ...BENCH_OPTIONS,
  ...BENCH_LOAD_OPTIONS,
  ...BENCH_SERVE_OPTIONS,
  ...BENCH_DATA_OPTIONS,
  ...BENCH_PROMPT_OPTIONS,
  ...BENCH_REPORT_OPTIONS,
  ...BENCH_KV_OPTIONS,
  ...BENCH_RESULTS_OPTIONS,
  ...OUTPUT_OPTIONS,
};

/** The table again, checked against the shape of a row. */
const ROWS: Readonly<Record<string, Option>> = OPTIONS;

export type OptionName = keyof typeof OPTIONS;
type Row<N extends OptionName> = (typeof OPTIONS)[N];

type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

type ValueOf<O> = O extends { readonly type: "boolean" }
  ? boolean
  : O extends { readonly type: "choice"; readonly choices: readonly (infer C)[] }
    ? C
    : O extends { readonly type: "list" }
      ? readonly number[]
      : O extends { readonly type: "pair" }
        ? readonly [low: number, high: number]
        : O extends { readonly type: "pairs" }
          ? readonly (readonly [first: number, second: number])[]
          : O extends { readonly type: "texts" }
            ? readonly string[]
            : O extends { readonly type: "text" | "path" }
              ? string
              : number;

/** A value for each option, under its name in camel case. */
export type OptionValues = { readonly [N in OptionName as CamelCase<N>]: ValueOf<Row<N>> };

type ValuesOfGroup<G extends OptionGroup> = {
  readonly [N in OptionName as Row<N>["group"] extends G ? CamelCase<N> : never]: ValueOf<Row<N>>;
};

/** What the engine is started with. */
export type EngineConfig = { readonly modelPath: string } & ValuesOfGroup<"engine" | "connectors">;
/** What `kvengine serve` reads. */
export type ServeConfig = ValuesOfGroup<"engine" | "connectors" | "server" | "model" | "output">;

/** What a workload of `kvengine bench` is made from. */
export type DatasetConfig = ValuesOfGroup<"dataset">;

/** `max-num-seqs` → `maxNumSeqs`. */
export function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** `max-num-seqs` → `KVENGINE_MAX_NUM_SEQS`. */
export function envName(name: string): string {
  return `KVENGINE_${name.replaceAll("-", "_").toUpperCase()}`;
}

/** The options of one command in the table's order. */
export function optionsOf(command: CommandName): readonly (readonly [OptionName, Option])[] {
  const rows = Object.entries(ROWS) as [OptionName, Option][];
  return rows.filter(([, option]) => option.commands.includes(command));
}
