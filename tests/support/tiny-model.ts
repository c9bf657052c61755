/**
 * A llama model small enough to compute in a test: random seeded weights, a byte-level vocabulary of 300 tokens, a chat
 * template. It says nothing sensible, but every part of a real file is there.
 */

import {
  bool,
  bools,
  encodeGguf,
  f32,
  type GgufContents,
  int32s,
  type MetadataValue,
  text,
  texts,
  type TensorContents,
  u32,
} from "./gguf-writer.ts";
import { quantize, type TinyDtype } from "./quantize.ts";

export type { TinyDtype };

export interface TinyModelOptions {
  readonly seed?: number;
  /** Of all matrices; norms are F32. */
  readonly dtype?: TinyDtype;
  readonly contextLength?: number;
  readonly numLayers?: number;
  /** Leave out `output.weight`, so that the embedding is used for the logits. */
  readonly tied?: boolean;
  /** Positions that window layers see. Without a pattern all layers are. */
  readonly slidingWindow?: number;
  /** Every n-th layer is full, or which layers have the window. */
  readonly slidingWindowPattern?: number | readonly boolean[];
  /** Six layers: two of three see the last 24 tokens only. */
  readonly hybrid?: boolean;
}

const HYBRID: TinyModelOptions = { numLayers: 6, slidingWindow: 24, slidingWindowPattern: 3 };

export const TINY = {
  numLayers: 2,
  hiddenSize: 64,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 16,
  intermediateSize: 128,
  vocabSize: 300,
  contextLength: 512,
  /** Ids of the control tokens. */
  endOfText: 0,
  imStart: 1,
  imEnd: 2,
} as const;

export const TINY_CHAT_TEMPLATE: string =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

export async function writeTinyModel(path: string, options: TinyModelOptions = {}): Promise<void> {
  await Bun.write(path, encodeGguf(tinyModel(options)));
}

/** The parts of the file, for tests that change one of them. */
export function tinyModel(given: TinyModelOptions = {}): GgufContents {
  const options = given.hybrid === true ? { ...HYBRID, ...given } : given;
  return { metadata: tinyMetadata(options), tensors: tinyTensors(options) };
}

function tinyMetadata(options: TinyModelOptions): Record<string, MetadataValue> {
  const { tokens, tokenTypes, merges } = tinyVocabulary();
  return {
    "general.architecture": text("llama"),
    "general.name": text("Tiny Test Model"),
    "general.quantization_version": u32(2),
    ...windowMetadata(options),
    "llama.block_count": u32(options.numLayers ?? TINY.numLayers),
    "llama.context_length": u32(options.contextLength ?? TINY.contextLength),
    "llama.embedding_length": u32(TINY.hiddenSize),
    "llama.feed_forward_length": u32(TINY.intermediateSize),
    "llama.attention.head_count": u32(TINY.numHeads),
    "llama.attention.head_count_kv": u32(TINY.numKvHeads),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.freq_base": f32(10_000),
    "llama.rope.dimension_count": u32(TINY.headDim),
    "llama.vocab_size": u32(TINY.vocabSize),
    "tokenizer.ggml.model": text("gpt2"),
    "tokenizer.ggml.pre": text("smollm"),
    "tokenizer.ggml.tokens": texts(tokens),
    "tokenizer.ggml.token_type": int32s(tokenTypes),
    "tokenizer.ggml.merges": texts(merges),
    "tokenizer.ggml.bos_token_id": u32(TINY.imStart),
    "tokenizer.ggml.eos_token_id": u32(TINY.imEnd),
    "tokenizer.ggml.add_bos_token": bool(false),
    "tokenizer.chat_template": text(TINY_CHAT_TEMPLATE),
  };
}

function windowMetadata({
  slidingWindow,
  slidingWindowPattern: pattern,
}: TinyModelOptions): Record<string, MetadataValue> {
  return {
    ...(slidingWindow === undefined
      ? {}
      : { "llama.attention.sliding_window": u32(slidingWindow) }),
    ...(pattern === undefined
      ? {}
      : {
          "llama.attention.sliding_window_pattern":
            typeof pattern === "number" ? u32(pattern) : bools(pattern),
        }),
  };
}

const CONTROL = 3;
const NORMAL = 1;
const CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/** Best first; each makes one token out of two that are there before it. */
const MERGES =
  "Ġ t|Ġ a|i n|h e|r e|o n|e r|Ġt he|a t|Ġ s|Ġ o|e n|Ġ c|e s|Ġ w|n d|i t|o r|i s|a l|in g|Ġ f|a n|e d|Ġ b|o u|a r|Ġa nd|" +
  "l l|Ġ h|Ġ m|i on|a s|l e|Ġ d|Ġt o|Ġo f|o m|u s|Ġ i|Ġ p";

function tinyVocabulary(): { tokens: string[]; tokenTypes: number[]; merges: string[] } {
  const merges = MERGES.split("|");
  const tokens = [
    ...CONTROL_TOKENS,
    ...byteSymbols(),
    ...merges.map((merge) => merge.replace(" ", "")),
  ];
  if (tokens.length !== TINY.vocabSize)
    throw new Error(`the tiny vocabulary has ${tokens.length} tokens`);
  const tokenTypes = tokens.map((_, id) => (id < CONTROL_TOKENS.length ? CONTROL : NORMAL));
  return { tokens, tokenTypes, merges };
}

/** GPT-2's printable character for each byte: printable Latin-1 stands for itself, the rest is moved past U+00FF. */
function byteSymbols(): string[] {
  let moved = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : moved++);
  });
}

function tinyTensors({
  seed = 1,
  dtype = "F32",
  numLayers = TINY.numLayers,
  tied = false,
}: TinyModelOptions): TensorContents[] {
  const normal = gaussian(seed);
  const { hiddenSize, intermediateSize, vocabSize } = TINY;
  const matrix = (
    name: string,
    rows: number,
    cols: number,
    deviation = 1 / Math.sqrt(cols),
  ): TensorContents => {
    const values = Float32Array.from({ length: rows * cols }, () => normal() * deviation);
    return {
      name: `${name}.weight`,
      dims: [cols, rows],
      type: dtype,
      bytes: quantize(values, dtype),
    };
  };
  const norm = (name: string): TensorContents => {
    const values = Float32Array.from({ length: hiddenSize }, () => 1 + 0.1 * normal());
    return {
      name: `${name}.weight`,
      dims: [hiddenSize],
      type: "F32",
      bytes: quantize(values, "F32"),
    };
  };
  const queryWidth = TINY.numHeads * TINY.headDim;
  const keyWidth = TINY.numKvHeads * TINY.headDim;
  const layer = (i: number): TensorContents[] => [
    norm(`blk.${i}.attn_norm`),
    matrix(`blk.${i}.attn_q`, queryWidth, hiddenSize),
    matrix(`blk.${i}.attn_k`, keyWidth, hiddenSize),
    matrix(`blk.${i}.attn_v`, keyWidth, hiddenSize),
    matrix(`blk.${i}.attn_output`, hiddenSize, queryWidth),
    norm(`blk.${i}.ffn_norm`),
    matrix(`blk.${i}.ffn_gate`, intermediateSize, hiddenSize),
    matrix(`blk.${i}.ffn_up`, intermediateSize, hiddenSize),
    matrix(`blk.${i}.ffn_down`, hiddenSize, intermediateSize),
  ];
  return [
    matrix("token_embd", vocabSize, hiddenSize, 0.5),
    ...Array.from({ length: numLayers }, (_, i) => layer(i)).flat(),
    norm("output_norm"),
    ...(tied ? [] : [matrix("output", vocabSize, hiddenSize, 0.5)]),
  ];
}

/** Standard normal numbers from a seed: mulberry32 and the Box-Muller transform. */
function gaussian(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
