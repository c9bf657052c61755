/** What a data set is: one row of the registry. */

import type { DatasetConfig, OptionName } from "../../../engine/config.ts";
import type { Conversation } from "../types.ts";
import type { DataSource } from "./files/data-source.ts";
import type { PromptWriter } from "./prompt-writer.ts";

export interface DatasetInput {
  readonly options: DatasetConfig;
  readonly seed: number;
  readonly writer: PromptWriter;
  /** Something about the workload for its report. */
  readonly note: (name: string, value: number) => void;
}

interface DatasetBase {
  /** The options that it reads beside those of all data sets: what the report says it was made from. */
  readonly options: readonly OptionName[];
}

/** Makes its prompts from options and a seed. */
export interface GeneratedDataset extends DatasetBase {
  readonly from: "options";
  create(input: DatasetInput): readonly Conversation[];
  /** Conversations at a time that it stands for; 0 = it does not say. */
  clients?(options: DatasetConfig): number;
}

/** Reads them from a file. Throws `bad_config` with file, place and field for what is wrong in it. */
export interface FileDataset extends DatasetBase {
  readonly from: "file";
  create(input: DatasetInput, source: DataSource): readonly Conversation[];
}

export type Dataset = GeneratedDataset | FileDataset;
