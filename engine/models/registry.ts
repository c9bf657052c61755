/** From a model file to everything the engine needs of it: architectures by name, loaded when one is asked for. */

import { basename } from "node:path";
import { KvEngineError } from "../errors.ts";
import { locateTensors } from "./checkpoint.ts";
import { type GgufFile, readGguf } from "./gguf.ts";
import { Graph } from "./graph.ts";
import { type KvPlace, planKvGroups } from "./kv-groups.ts";
import { Metadata } from "./metadata.ts";
import { type ModelConfig, readModelConfig } from "./model-config.ts";
import type { KvGroup, Tape, TensorSource } from "./tape.ts";
import { type GgufVocabulary, readVocabulary } from "./vocabulary.ts";

/** A model whose header has been read; no weight has. */
export interface LoadedModel {
  readonly path: string;
  /** For people: the file's own name for itself. */
  readonly name: string;
  readonly architecture: string;
  readonly config: ModelConfig;
  readonly tape: Tape;
  /** Where the tensors that the tape reads lie in `files`. */
  readonly tensors: TensorSource[];
  readonly files: string[];
  readonly groups: KvGroup[];
  readonly vocabulary: GgufVocabulary;
  readonly gguf: GgufFile;
}

/** Runs once and leaves a model's ops on the graph. */
export type Architecture = (graph: Graph, config: ModelConfig, places: readonly KvPlace[]) => void;

/** By `general.architecture`. */
const ARCHITECTURES: Readonly<Record<string, () => Promise<Architecture>>> = {
  llama: async () => (await import("./llama.ts")).llama,
};

/** Throws `bad_model` for a file that is wrong, `unsupported` for one that needs what there is not. */
export async function loadModel(path: string): Promise<LoadedModel> {
  const gguf = readGguf(path);
  refuseSplit(gguf);
  const architecture = new Metadata(gguf).string("general.architecture");
  const record = await findArchitecture(path, architecture);
  const config = readModelConfig(gguf);
  const names = new Set(gguf.tensors.map(({ name }) => name));
  const graph = new Graph((name) => names.has(name));
  const { groups, places } = planKvGroups(config);
  record(graph, config, places);
  return {
    path,
    name: modelName(gguf),
    architecture,
    config,
    tape: graph.tape,
    tensors: locateTensors(gguf, graph.weights),
    files: [path],
    groups,
    vocabulary: readVocabulary(gguf, config.vocabSize),
    gguf,
  };
}

async function findArchitecture(path: string, name: string): Promise<Architecture> {
  if (Object.hasOwn(ARCHITECTURES, name)) {
    const load = ARCHITECTURES[name];
    if (load !== undefined) return await load();
  }
  const message = `${path}: architecture ${JSON.stringify(name.slice(0, 100))} is not supported; supported are ${Object.keys(ARCHITECTURES).join(", ")}`;
  throw new KvEngineError("unsupported", message, { subject: "general.architecture" });
}

function refuseSplit(gguf: GgufFile): void {
  const count = gguf.metadata.get("split.count");
  if (count === undefined || count === 0 || count === 1) return;
  throw new KvEngineError(
    "unsupported",
    `${gguf.path}: is one of ${String(count)} parts of a model; supported are whole files`,
    {
      subject: "split.count",
      hint: "join the parts: llama-gguf-split --merge FIRST_PART OUT.gguf",
    },
  );
}

function modelName(gguf: GgufFile): string {
  const name = gguf.metadata.get("general.name");
  return typeof name === "string" && name !== "" ? name : basename(gguf.path, ".gguf");
}
