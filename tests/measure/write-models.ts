/**
 * Writes the model files of `reach.ts`; those that are there are left as they are.
 *
 *   bun tests/measure/write-models.ts DIR --peer DIR_OF_LLAMA_CPP_PROGRAMS [--model MODEL.gguf] [--only NAME]
 *
 * - The default model in Q4_0 and Q8_0: the packaged Q4_1 file, quantised again by `llama-quantize`, the head as that puts it (Q8_0).
 * - A model of Llama-3.2-1B's shape with seeded random weights in Q4_0, Q8_0, Q4_K and Q6_K, the tied head Q6_K (Q8_0 beside Q8_0) as
 *   `llama-quantize` has it; the default model's tokens, filled up to 128,256. Its answers mean nothing, its speed is that of the shape.
 */
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { GGML_TYPES, type GgmlType } from "../../engine/models/ggml-types.ts";
import { readGguf } from "../../engine/models/gguf.ts";
import { readVocabulary } from "../../engine/models/vocabulary.ts";
import { defaultModelPath } from "../support/default-model.ts";
import {
  bool,
  f32,
  int32s,
  type MetadataValue,
  type TensorContents,
  text,
  texts,
  u32,
  writeGguf,
} from "../support/gguf-writer.ts";
import { quantize } from "../support/quantize.ts";

/** Llama-3.2-1B's. */
const SHAPE = { layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, inner: 8192 };
const VOCABULARY = 128_256;
const CONTEXT = 8192;
/** llama.cpp's `LLAMA_TOKEN_TYPE_UNUSED`: never made of text. */
const UNUSED = 5;
const RANDOM_TYPES = ["Q4_0", "Q8_0", "Q4_K", "Q6_K"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peer: { type: "string" },
    model: { type: "string", default: defaultModelPath() },
    only: { type: "string", default: "" },
  },
});
const [folder] = positionals;
if (folder === undefined)
  throw new Error("usage: write-models.ts DIR --peer DIR_OF_LLAMA_CPP_PROGRAMS [--model MODEL]");
await mkdir(folder, { recursive: true });

/** Under another name first, so that a file that is there is whole. */
async function write(name: string, make: (path: string) => Promise<void>): Promise<void> {
  const path = join(folder as string, name);
  if (!name.includes(values.only) || (await Bun.file(path).exists())) return;
  await make(`${path}.part`);
  await rename(`${path}.part`, path);
  console.log(path);
}

async function quantiseAgain(path: string, type: string): Promise<void> {
  if (values.peer === undefined) throw new Error("--peer: the folder of llama-quantize is needed");
  const program = join(values.peer, "llama-quantize");
  const child = Bun.spawn([program, "--allow-requantize", values.model, path, type, "2"], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = await child.stderr.text();
  if ((await child.exited) !== 0) throw new Error(`llama-quantize failed:\n${said}`);
}

async function writeRandom(path: string, type: string): Promise<void> {
  const { layers, hidden, heads, kvHeads, headDim, inner } = SHAPE;
  const random = words(`random-1B ${type}`);
  const matrix = (name: string, rows: number, cols: number, of = type): TensorContents => ({
    name: `${name}.weight`,
    dims: [cols, rows],
    type: of,
    bytes: randomWeights(random, typeNamed(of), rows * cols, 1 / Math.sqrt(cols)),
  });
  const norm = (name: string): TensorContents => ({
    name: `${name}.weight`,
    dims: [hidden],
    type: "F32",
    bytes: quantize(new Float32Array(hidden).fill(1), "F32"),
  });
  const tensors: TensorContents[] = [
    matrix("token_embd", VOCABULARY, hidden, type === "Q8_0" ? "Q8_0" : "Q6_K"),
    norm("output_norm"),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string): string => `blk.${layer}.${name}`;
    tensors.push(
      norm(at("attn_norm")),
      matrix(at("attn_q"), heads * headDim, hidden),
      matrix(at("attn_k"), kvHeads * headDim, hidden),
      matrix(at("attn_v"), kvHeads * headDim, hidden),
      matrix(at("attn_output"), hidden, heads * headDim),
      norm(at("ffn_norm")),
      matrix(at("ffn_gate"), inner, hidden),
      matrix(at("ffn_up"), inner, hidden),
      matrix(at("ffn_down"), hidden, inner),
    );
  }
  await writeGguf(path, { metadata: metadata(type), tensors });
}

function metadata(type: string): Record<string, MetadataValue> {
  const { layers, hidden, heads, kvHeads, headDim, inner } = SHAPE;
  const file = readGguf(values.model);
  const vocabulary = readVocabulary(file, VOCABULARY);
  const missing = VOCABULARY - vocabulary.tokens.length;
  const fillers = Array.from({ length: missing }, (_, i) => `<|unused_${i}|>`);
  return {
    "general.architecture": text("llama"),
    "general.name": text(`Random 1B ${type}`),
    "llama.block_count": u32(layers),
    "llama.context_length": u32(CONTEXT),
    "llama.embedding_length": u32(hidden),
    "llama.feed_forward_length": u32(inner),
    "llama.attention.head_count": u32(heads),
    "llama.attention.head_count_kv": u32(kvHeads),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.dimension_count": u32(headDim),
    "llama.rope.freq_base": f32(500_000),
    "llama.vocab_size": u32(VOCABULARY),
    "tokenizer.ggml.model": text(vocabulary.model),
    "tokenizer.ggml.pre": text(vocabulary.pre),
    "tokenizer.ggml.tokens": texts([...vocabulary.tokens, ...fillers]),
    "tokenizer.ggml.token_type": int32s([...vocabulary.tokenTypes, ...fillers.map(() => UNUSED)]),
    "tokenizer.ggml.merges": texts(vocabulary.merges),
    "tokenizer.ggml.bos_token_id": u32(vocabulary.bosId ?? 0),
    "tokenizer.ggml.eos_token_id": u32(vocabulary.eosId ?? 0),
    "tokenizer.ggml.add_bos_token": bool(false),
    ...(vocabulary.chatTemplate === undefined
      ? {}
      : { "tokenizer.chat_template": text(vocabulary.chatTemplate) }),
  };
}

function typeNamed(name: string): GgmlType {
  const type = GGML_TYPES.values().find((one) => one.name === name);
  if (type === undefined) throw new Error(`no ggml type ${name}`);
  return type;
}

/** Where a block's halves are, and what the numbers of a block are times its scale, at most; the rest of a block may be any bits. */
const BLOCKS: Readonly<Record<string, { scale: number; minimum?: number; largest: number }>> = {
  Q4_0: { scale: 0, largest: 8 },
  Q8_0: { scale: 0, largest: 128 },
  Q4_K: { scale: 0, minimum: 2, largest: 8 * 63 },
  Q6_K: { scale: 208, largest: 32 * 128 },
};

/** Random numbers with scales that make a block's largest about `2 * deviation`. */
function randomWeights(
  random: () => number,
  type: GgmlType,
  elements: number,
  deviation: number,
): Uint8Array {
  const block = BLOCKS[type.name];
  if (block === undefined) throw new Error(`no random ${type.name}`);
  const bytes = new Uint8Array((elements / type.blockLen) * type.blockBytes);
  const whole = new Int32Array(bytes.buffer, 0, bytes.length >> 2);
  for (let i = 0; i < whole.length; i++) whole[i] = random();
  const view = new DataView(bytes.buffer);
  const scale = (2 * deviation) / block.largest;
  for (let at = 0; at < bytes.length; at += type.blockBytes) {
    view.setFloat16(at + block.scale, scale, true);
    // A minimum is subtracted, 0 to 63 times: the middle of numbers 0 to 15 times 0 to 63.
    if (block.minimum !== undefined) view.setFloat16(at + block.minimum, 7.5 * scale, true);
  }
  return bytes;
}

/** 32 random bits a call (mulberry32), the same for a name everywhere. */
function words(name: string): () => number {
  let state = Number(Bun.hash(name) & 0xffff_ffffn);
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return x ^ (x >>> 14);
  };
}

for (const type of ["Q4_0", "Q8_0"])
  await write(`SmolLM2-135M-Instruct.${type}.gguf`, (path) => quantiseAgain(path, type));
for (const type of RANDOM_TYPES)
  await write(`random-1B.${type}.gguf`, (path) => writeRandom(path, type));
