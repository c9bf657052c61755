/** All data sets by name, and workloads made from them. */

import { camelCase, type DatasetConfig } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { nearest } from "../../../engine/nearest.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import type { Conversation, Workload } from "../types.ts";
import { AGENTIC } from "./agentic.ts";
import { BURSTGPT } from "./burstgpt.ts";
import { CUSTOM } from "./custom.ts";
import type { Dataset, DatasetInput } from "./dataset.ts";
import { type DataSource, openDataFile } from "./files/data-source.ts";
import { GENERATED_SHARED_PREFIX } from "./generated-shared-prefix.ts";
import { LONG_DOCUMENT } from "./long-document.ts";
import { MULTI_TURN } from "./multi-turn.ts";
import { PREFIX_REPETITION } from "./prefix-repetition.ts";
import { PromptWriter } from "./prompt-writer.ts";
import { RANDOM } from "./random.ts";
import { RECORDED } from "./recorded.ts";
import { SHAREGPT } from "./sharegpt.ts";
import { MOONCAKE, TIMED_TRACE } from "./timed-trace.ts";

type DatasetName = DatasetConfig["datasetName"];

export const DATASETS: Readonly<Record<DatasetName, Dataset>> = {
  random: RANDOM,
  prefix_repetition: PREFIX_REPETITION,
  "generated-shared-prefix": GENERATED_SHARED_PREFIX,
  "multi-turn": MULTI_TURN,
  agentic: AGENTIC,
  "long-document": LONG_DOCUMENT,
  sharegpt: SHAREGPT,
  burstgpt: BURSTGPT,
  mooncake: MOONCAKE,
  timed_trace: TIMED_TRACE,
  custom: CUSTOM,
  recorded: RECORDED,
};

/** The options of the data sets, and the seed of all that is drawn. */
export type WorkloadOptions = DatasetConfig & { readonly seed: number };

/** The workload that the options name; its file is read and closed. Throws `bad_config`. */
export function loadWorkload(options: WorkloadOptions, tokenizer: Tokenizer): Workload {
  const { datasetName, datasetPath } = options;
  if (datasetPath === "") return createWorkload(datasetName, options, tokenizer, undefined);
  const source = openDataFile(datasetPath);
  try {
    return createWorkload(datasetName, options, tokenizer, source);
  } finally {
    source.close();
  }
}

/**
 * A workload of the named data set. `tokenizer` is the server's; `source` its file, for data sets that have one.
 * Throws `bad_config` for an unknown name, for a file too much or too few, and for what is wrong in it; `unsupported` where no text
 * of exact length can be made for this tokenizer.
 */
export function createWorkload(
  name: string,
  options: WorkloadOptions,
  tokenizer: Tokenizer,
  source: DataSource | undefined,
): Workload {
  if (!isDataset(name)) throw unknownDataset(name);
  const dataset = DATASETS[name];
  const { seed, promptForm } = options;
  const notes: Record<string, number> = {};
  const input: DatasetInput = {
    options,
    seed,
    writer: new PromptWriter(tokenizer, promptForm),
    note: (note, value) => (notes[note] = value),
  };
  const conversations = create(name, dataset, input, source);
  const clients = dataset.from === "options" ? (dataset.clients?.(options) ?? 0) : 0;
  return {
    name,
    seed,
    parameters: { ...parametersOf(dataset, options, source), ...notes },
    conversations,
    ...(clients === 0 ? {} : { clients }),
  };
}

function create(
  name: string,
  dataset: Dataset,
  input: DatasetInput,
  source: DataSource | undefined,
): readonly Conversation[] {
  if (dataset.from === "file") {
    if (source !== undefined) return dataset.create(input, source);
    throw new KvEngineError("bad_config", `the data set ${name} is read from a file`, {
      subject: "--dataset-path",
      hint: "name it with --dataset-path",
    });
  }
  if (source !== undefined) {
    throw new KvEngineError(
      "bad_config",
      `the data set ${name} makes its own prompts and reads no file`,
      {
        subject: "--dataset-path",
        hint: `leave --dataset-path out, or name what the file is: ${namesFrom("file").join(", ")}`,
      },
    );
  }
  if (dataset.options.includes("num-prompts") && input.options.numPrompts === 0) {
    throw new KvEngineError(
      "bad_config",
      `--num-prompts is 0, the whole file, and ${name} has none; allowed is at least 1`,
      { subject: "--num-prompts" },
    );
  }
  return dataset.create(input);
}

function parametersOf(
  dataset: Dataset,
  options: WorkloadOptions,
  source: DataSource | undefined,
): Record<string, string | number | boolean> {
  const values: Readonly<Record<string, string | number | boolean>> = options;
  const names = ["prompt-form", "ignore-eos", ...dataset.options];
  const own = names.map((name) => [name, values[camelCase(name)] ?? ""]);
  return {
    ...Object.fromEntries(own),
    ...(source === undefined ? {} : { "dataset-path": source.name, "dataset-bytes": source.size }),
  };
}

function isDataset(name: string): name is DatasetName {
  return Object.hasOwn(DATASETS, name);
}

function namesFrom(from: Dataset["from"]): string[] {
  return Object.entries(DATASETS)
    .filter(([, dataset]) => dataset.from === from)
    .map(([name]) => name);
}

function unknownDataset(name: string): KvEngineError {
  const near = nearest(name, Object.keys(DATASETS));
  return new KvEngineError(
    "bad_config",
    `there is no data set ${name}${near === undefined ? "" : `; the nearest is ${near}`}`,
    { subject: "--dataset-name", hint: `there are ${Object.keys(DATASETS).join(", ")}` },
  );
}
