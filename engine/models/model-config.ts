/**
 * The numbers of a model, out of GGUF metadata (`<architecture>.*`). What the architecture's function cannot do is refused
 * here, so that a file never runs as something it is not. Keys: `docs/gguf.md` of ggml and llama.cpp's `llama-arch.cpp`.
 */

import { KvEngineError } from "../errors.ts";
import type { GgufFile } from "./gguf.ts";
import { type LayerKinds, readLayerKinds } from "./layer-kinds.ts";
import { Metadata, type Range } from "./metadata.ts";

export interface ModelConfig extends LayerKinds {
  readonly architecture: string;
  readonly numLayers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Elements of a head that are rotated. */
  readonly ropeDims: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  /** What query·key is multiplied with. */
  readonly attentionScale: number;
  /** Rows of the embedding; token ids are below it. */
  readonly vocabSize: number;
  /** Longest sequence the model was made for, in tokens. */
  readonly contextLength: number;
}

const LAYERS: Range = { min: 1, max: 1024 };
const HEADS: Range = { min: 1, max: 1024 };
const HEAD_DIM: Range = { min: 2, max: 1024 };
const WIDTH: Range = { min: 1, max: 1 << 20 };
const CONTEXT: Range = { min: 1, max: 1 << 24 };
const VOCABULARY: Range = { min: 1, max: 1 << 22 };
const THETA: Range = { min: 1, max: 1e12 };
const EPS: Range = { min: 1e-12, max: 0.1 };
const SCALE: Range = { min: 1e-6, max: 1e6 };

/** Throws `bad_model` (missing, wrong type, out of range, contradiction) or `unsupported` (a feature there is none of). */
export function readModelConfig(file: GgufFile): ModelConfig {
  const metadata = new Metadata(file);
  const architecture = metadata.string("general.architecture");
  const key = (name: string): string => `${architecture}.${name}`;
  refuseFeatures(file, key);

  const numLayers = metadata.integer(key("block_count"), LAYERS);
  const hiddenSize = metadata.integer(key("embedding_length"), WIDTH);
  const numHeads = same(
    file,
    key("attention.head_count"),
    metadata.integers(key("attention.head_count"), numLayers, HEADS),
  );
  const kvKey = key("attention.head_count_kv");
  const numKvHeads = same(file, kvKey, metadata.integers(kvKey, numLayers, HEADS, numHeads));
  if (numHeads % numKvHeads !== 0) {
    throw contradiction(
      file,
      kvKey,
      `is ${numKvHeads}, which does not divide ${key("attention.head_count")}, ${numHeads}`,
    );
  }
  const headDim = readHeadDim(file, metadata, key, hiddenSize / numHeads);
  const ropeDims = metadata.integer(key("rope.dimension_count"), HEAD_DIM, headDim);
  if (ropeDims % 2 !== 0 || ropeDims > headDim) {
    throw contradiction(
      file,
      key("rope.dimension_count"),
      `is ${ropeDims}, allowed is an even number up to ${headDim}`,
    );
  }
  const widthKey = key("feed_forward_length");
  const contextLength = metadata.integer(key("context_length"), CONTEXT);
  return {
    architecture,
    numLayers,
    hiddenSize,
    intermediateSize: same(file, widthKey, metadata.integers(widthKey, numLayers, WIDTH)),
    numHeads,
    numKvHeads,
    headDim,
    ropeDims,
    ropeTheta: metadata.number(key("rope.freq_base"), THETA, 10_000),
    rmsNormEps: metadata.number(key("attention.layer_norm_rms_epsilon"), EPS),
    attentionScale: metadata.number(key("attention.scale"), SCALE, 1 / Math.sqrt(headDim)),
    vocabSize: readVocabSize(file, metadata, key("vocab_size")),
    contextLength,
    ...readLayerKinds(metadata, key, numLayers, contextLength),
  };
}

function readHeadDim(
  file: GgufFile,
  metadata: Metadata,
  key: (name: string) => string,
  usual: number,
): number {
  const keyLength = metadata.optionalInteger(key("attention.key_length"), HEAD_DIM);
  const valueLength = metadata.optionalInteger(key("attention.value_length"), HEAD_DIM);
  const headDim = keyLength ?? usual;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw contradiction(
      file,
      key("embedding_length"),
      `makes heads of ${headDim} elements, allowed is an even number`,
    );
  }
  if (valueLength !== undefined && valueLength !== headDim) {
    throw unsupported(
      file,
      key("attention.value_length"),
      String(valueLength),
      `the key length, ${headDim}`,
    );
  }
  return headDim;
}

/** The embedding decides: the key is missing in many files. */
function readVocabSize(file: GgufFile, metadata: Metadata, key: string): number {
  const embedding = file.tensors.find(({ name }) => name === "token_embd.weight");
  if (embedding === undefined) {
    throw new KvEngineError("bad_model", `${file.path}: tensor token_embd.weight is missing`, {
      subject: "token_embd.weight",
    });
  }
  const rows = embedding.dims[1] ?? 1;
  const vocabSize = metadata.integer(key, VOCABULARY, rows);
  if (vocabSize !== rows)
    throw contradiction(file, key, `is ${vocabSize}, but token_embd.weight has ${rows} rows`);
  return vocabSize;
}

/** Keys that change what a model computes, in ways no function here has; each with the values that change nothing. */
const NEUTRAL: readonly (readonly [
  key: string,
  neutral: readonly (string | number | boolean)[],
  what: string,
])[] = [
  ["expert_count", [0, 1], "mixtures of experts"],
  ["expert_used_count", [0, 1], "mixtures of experts"],
  ["use_parallel_residual", [false], "parallel residuals"],
  ["attention.causal", [true], "attention in both directions"],
  ["attention.max_alibi_bias", [0], "ALiBi"],
  ["attention.clamp_kqv", [0], "clamped queries, keys and values"],
  ["attention.temperature_scale", [0], "attention temperature"],
  ["logit_scale", [0, 1], "scaled logits"],
  ["residual_scale", [0, 1], "scaled residuals"],
  ["embedding_scale", [0, 1], "scaled embeddings"],
  ["attn_logit_softcapping", [0], "soft-capped attention"],
  ["final_logit_softcapping", [0], "soft-capped logits"],
  ["rope.freq_base_swa", [], "a RoPE base of its own for window layers"],
  ["rope.scaling.type", ["none"], "RoPE scaling"],
  ["rope.scale_linear", [1, 0], "RoPE scaling"],
  ["rope.scaling.attn_factor", [1, 0], "RoPE scaling"],
];

function refuseFeatures(file: GgufFile, key: (name: string) => string): void {
  for (const [name, neutral, what] of NEUTRAL) {
    const value = file.metadata.get(key(name));
    if (value === undefined || neutral.some((each) => each === value)) continue;
    if (
      name === "rope.scaling.type" &&
      value === "linear" &&
      file.metadata.get(key("rope.scaling.factor")) === 1
    )
      continue;
    const shown =
      typeof value === "object" ? "a list" : JSON.stringify(value, (_, each) => String(each));
    throw unsupported(
      file,
      key(name),
      shown,
      `${neutral.join(" or ")}; there is no kernel for ${what} yet`,
    );
  }
}

/** The one number of a list with one for each layer. */
function same(file: GgufFile, key: string, values: readonly number[]): number {
  const [first = 0] = values;
  if (values.every((value) => value === first)) return first;
  throw unsupported(file, key, "different from layer to layer", "one number for all layers");
}

function contradiction(file: GgufFile, key: string, problem: string): KvEngineError {
  return new KvEngineError("bad_model", `${file.path}: metadata ${key} ${problem}`, {
    subject: key,
  });
}

function unsupported(file: GgufFile, key: string, value: string, allowed: string): KvEngineError {
  return new KvEngineError(
    "unsupported",
    `${file.path}: metadata ${key} is ${value}, supported is ${allowed}`,
    { subject: key },
  );
}
