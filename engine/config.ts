/**
 * THE option table. Flags, `KVENGINE_*` variables, config file keys, `--help`, the README's table and the types below
 * are all derived from it: an option is one row here and nothing else. Knows no disk, no device and no command line.
 */

import type { CommandName, Option, OptionGroup } from "./option.ts";

export const OPTIONS = {
  backend: {
    group: "engine",
    type: "choice",
    default: "auto",
    choices: ["auto", "cpu", "reference"],
    commands: ["serve", "run", "chat", "bench engine"],
    help: "What computes; `reference` is slow and exact, auto picks the fastest one present",
    example: "cpu",
  },
  isa: {
    group: "engine",
    type: "choice",
    default: "auto",
    choices: ["auto", "avx512", "avx2", "portable"],
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Instruction set of the cpu backend; auto picks the widest this processor has",
    example: "avx2",
  },
  threads: {
    group: "engine",
    type: "integer",
    default: 0,
    min: 0,
    max: 1024,
    unit: "threads",
    meaning: "all cores",
    short: "t",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Threads that compute",
    example: "4",
  },
  "max-num-seqs": {
    group: "engine",
    type: "integer",
    default: 32,
    min: 1,
    max: 1024,
    unit: "sequences",
    commands: ["serve"],
    help: "Most sequences in one step; others wait",
    example: "8",
  },
  "max-num-batched-tokens": {
    group: "engine",
    type: "integer",
    default: 512,
    min: 1,
    max: 65_536,
    unit: "tokens",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Most tokens in one step; longer prompts are computed in chunks",
    example: "1024",
  },
  "max-model-len": {
    group: "engine",
    type: "integer",
    default: 0,
    min: 0,
    max: 16_777_216,
    unit: "tokens",
    meaning: "the model's own",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Most tokens of prompt and output together",
    example: "4096",
  },
  "block-size": {
    group: "engine",
    type: "integer",
    default: 16,
    min: 1,
    max: 256,
    unit: "tokens",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Tokens of one KV block",
    example: "32",
  },
  "num-gpu-blocks-override": {
    group: "engine",
    type: "integer",
    default: 0,
    min: 0,
    max: 16_777_216,
    unit: "blocks",
    meaning: "planned from memory",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "KV blocks on the device, instead of as many as fit",
    example: "2048",
  },
  "kv-cache-memory": {
    group: "engine",
    type: "bytes",
    default: 0,
    min: 0,
    max: 9_007_199_254_740_991,
    unit: "bytes",
    meaning: "planned from memory",
    commands: ["serve", "run", "chat", "bench engine"],
    help: "Memory for KV blocks",
    example: "512MiB",
  },
  host: {
    group: "server",
    type: "text",
    default: "127.0.0.1",
    hint: "address",
    commands: ["serve"],
    help: "Address to listen on; 0.0.0.0 = every network of this machine",
    example: "0.0.0.0",
  },
  port: {
    group: "server",
    type: "integer",
    default: 8000,
    min: 0,
    max: 65_535,
    unit: "",
    short: "p",
    commands: ["serve"],
    help: "Port to listen on; 0 = any free one",
    example: "9000",
  },
  "served-model-name": {
    group: "server",
    type: "text",
    default: "",
    hint: "name",
    commands: ["serve"],
    help: "Name of the model in the API, instead of the one it was asked for by",
    example: "my-model",
  },
  "api-key": {
    group: "server",
    type: "text",
    default: "",
    hint: "key",
    secret: true,
    commands: ["serve"],
    help: "Key that requests under /v1 must carry as a bearer token; prefer the variable, a flag shows in `ps`",
    example: "secret",
  },
  "max-body-size": {
    group: "server",
    type: "bytes",
    default: 16_777_216,
    min: 1024,
    max: 1_073_741_824,
    unit: "bytes",
    commands: ["serve"],
    help: "Largest request body",
    example: "4MiB",
  },
  "shutdown-timeout": {
    group: "server",
    type: "number",
    default: 30,
    min: 0,
    max: 86_400,
    unit: "seconds",
    commands: ["serve"],
    help: "Time that running requests get to end after the first SIGTERM or SIGINT",
    example: "60",
  },
  "chat-template": {
    group: "model",
    type: "path",
    default: "",
    hint: "file",
    commands: ["serve", "run", "chat"],
    help: "Jinja file to use instead of the model's own chat template",
    example: "./template.jinja",
  },
  offline: {
    group: "model",
    type: "boolean",
    default: false,
    commands: ["serve", "run", "chat", "bench engine", "inspect", "pull"],
    help: "Use only what is on disk; HF_HUB_OFFLINE=1 does the same",
    example: "true",
  },
  system: {
    group: "sampling",
    type: "text",
    default: "",
    hint: "text",
    commands: ["run", "chat"],
    help: "System message",
    example: "Answer in one word.",
  },
  "max-tokens": {
    group: "sampling",
    type: "integer",
    default: 0,
    min: 0,
    max: 16_777_216,
    unit: "tokens",
    meaning: "as many as fit",
    short: "n",
    commands: ["run", "chat"],
    help: "Most tokens of an answer",
    example: "256",
  },
  temperature: {
    group: "sampling",
    type: "number",
    default: 0.7,
    min: 0,
    max: 100,
    unit: "",
    commands: ["run", "chat"],
    help: "Randomness of the answer; 0 = the most probable token each time",
    example: "0",
  },
  "top-k": {
    group: "sampling",
    type: "integer",
    default: 0,
    min: 0,
    max: 1_048_576,
    unit: "tokens",
    meaning: "all",
    commands: ["run", "chat"],
    help: "Pick among the k most probable tokens",
    example: "40",
  },
  "top-p": {
    group: "sampling",
    type: "number",
    default: 1,
    min: 0.000_001,
    max: 1,
    unit: "probability",
    commands: ["run", "chat"],
    help: "Pick among the smallest set of tokens with this probability",
    example: "0.9",
  },
  "min-p": {
    group: "sampling",
    type: "number",
    default: 0,
    min: 0,
    max: 1,
    unit: "probability",
    commands: ["run", "chat"],
    help: "Leave out tokens below this share of the most probable one",
    example: "0.05",
  },
  seed: {
    group: "sampling",
    type: "integer",
    default: -1,
    min: -1,
    max: 9_007_199_254_740_991,
    unit: "",
    meaning: "drawn at start",
    commands: ["run", "chat"],
    help: "Seed of the random picks: the same seed gives the same answer",
    example: "42",
  },
  "n-prompt": {
    group: "bench",
    type: "list",
    default: [512],
    min: 0,
    max: 1_048_576,
    unit: "tokens",
    short: "p",
    commands: ["bench engine"],
    help: "Prompt lengths to measure; 0 = no prompt test",
    example: "128,512",
  },
  "n-gen": {
    group: "bench",
    type: "list",
    default: [128],
    min: 0,
    max: 1_048_576,
    unit: "tokens",
    short: "n",
    commands: ["bench engine"],
    help: "Output lengths to measure; 0 = no generation test",
    example: "64,128",
  },
  repetitions: {
    group: "bench",
    type: "integer",
    default: 5,
    min: 1,
    max: 1000,
    unit: "runs",
    short: "r",
    commands: ["bench engine"],
    help: "Measured runs of each test, after one that is not counted",
    example: "3",
  },
  tape: {
    group: "output",
    type: "boolean",
    default: false,
    commands: ["inspect"],
    help: "Print the recorded operations of the model",
    example: "true",
  },
  json: {
    group: "output",
    type: "boolean",
    default: false,
    commands: ["bench engine", "inspect", "doctor"],
    help: "Print JSON instead of text",
    example: "true",
  },
  progress: {
    group: "output",
    type: "boolean",
    default: true,
    commands: ["serve", "run", "chat", "bench engine", "inspect", "pull"],
    help: "Show progress bars on a terminal",
    example: "false",
  },
  "log-level": {
    group: "output",
    type: "choice",
    default: "info",
    choices: ["silent", "error", "warn", "info", "debug"],
    commands: ["serve", "run", "chat", "bench engine", "inspect", "pull", "doctor"],
    help: "What is reported on standard error",
    example: "debug",
  },
  config: {
    group: "output",
    type: "path",
    default: "",
    hint: "file",
    commands: ["serve", "run", "chat", "bench engine", "inspect", "pull", "doctor"],
    help: "TOML or JSON file whose keys are names of options; flags and variables go before it",
    example: "./kvengine.toml",
  },
} as const;

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
      : O extends { readonly type: "text" | "path" }
        ? string
        : number;

/** A value for each option, under its name in camel case. */
export type OptionValues = { readonly [N in OptionName as CamelCase<N>]: ValueOf<Row<N>> };

type ValuesOfGroup<G extends OptionGroup> = {
  readonly [N in OptionName as Row<N>["group"] extends G ? CamelCase<N> : never]: ValueOf<Row<N>>;
};

/** What the engine is started with. */
export type EngineConfig = { readonly modelPath: string } & ValuesOfGroup<"engine">;
/** What `kvengine serve` reads. */
export type ServeConfig = ValuesOfGroup<"engine" | "server" | "model" | "output">;

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
