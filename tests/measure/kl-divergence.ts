/**
 * Mean KL divergence of a backend's logits to the fp32 reference on a model file, in `llama-perplexity`'s terms:
 * chunks of 512 tokens, every position of the second half that has a next token, the reference's log-probabilities
 * rounded to 16 bits as its `--kl-divergence-base` file stores them.
 *
 *   bun tests/measure/kl-divergence.ts MODEL.gguf [--peer DIR_OF_LLAMA_CPP_PROGRAMS]
 *
 * The cpu backend is measured with each type of KV. With `--peer` the same base file and token ids are given to the peer and both figures are printed. The file format is
 * that of llama.cpp `tools/perplexity/perplexity.cpp` (`_logits_`, n_ctx, n_vocab, n_chunk, token ids, rows).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "../../engine/models/registry.ts";
import { createTokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { logitsOf } from "../support/logits.ts";

const CHUNK = 512;
const FIRST = CHUNK / 2;
const SCORED = CHUNK - 1 - FIRST;
const TEXTS = ["prose.txt", "code.txt"];
const KV_TYPES = ["f16", "bf16", "q8"] as const;
const POSITIONS = Array.from({ length: SCORED }, (_, i) => FIRST + i);

/** A row of the base file: f32 scale, f32 lowest log-probability, then u16 a token, padded to an even count. */
function baseRow(logits: Float32Array): Uint16Array {
  const row = new Uint16Array(2 * Math.ceil(logits.length / 2) + 4);
  let max = -Infinity;
  let min = Infinity;
  for (const x of logits) {
    max = Math.max(max, x);
    min = Math.min(min, x);
  }
  min = Math.max(min, max - 16);
  const logSum = logSumExp(logits, max);
  const head = new Float32Array(row.buffer, 0, 2);
  head[0] = (max - min) / 65_535;
  head[1] = min - max - logSum;
  const inverse = 1 / (head[0] ?? 1);
  for (const [i, x] of logits.entries()) row[4 + i] = x > min ? Math.round(inverse * (x - min)) : 0;
  return row;
}

function logSumExp(logits: Float32Array, max: number): number {
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - max);
  return Math.log(sum);
}

/** KL divergence of one position, summed as the peer sums it (terms below exp(-16) left out). */
function divergence(base: Uint16Array, logits: Float32Array): number {
  const [scale = 0, lowest = 0] = new Float32Array(base.buffer, 0, 2);
  let max = -Infinity;
  for (const x of logits) max = Math.max(max, x);
  const normaliser = max + logSumExp(logits, max);
  let sum = 0;
  for (const [i, x] of logits.entries()) {
    const logBase = scale * (base[4 + i] ?? 0) + lowest;
    if (logBase > -16) sum += Math.exp(logBase) * (logBase - x + normaliser);
  }
  return sum;
}

async function peerDivergence(programs: string, modelPath: string, base: string): Promise<number> {
  const command = [
    join(programs, "llama-perplexity"),
    "-m",
    modelPath,
    "-t",
    "2",
    "-c",
    String(CHUNK),
    "-b",
    String(CHUNK),
  ];
  const peer = Bun.spawn([...command, "--kl-divergence", "--kl-divergence-base", base], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(peer.stdout).text(),
    new Response(peer.stderr).text(),
  ]);
  const found = /Mean\s+KLD:\s*([-\d.e]+)/.exec(out + err);
  if (found?.[1] === undefined)
    throw new Error(`llama-perplexity printed no "Mean KLD":\n${out}${err}`);
  return Number(found[1]);
}

const [modelPath, flag, programs] = process.argv.slice(2);
if (modelPath === undefined) throw new Error("usage: kl-divergence.ts MODEL.gguf [--peer DIR]");
const model = await loadModel(modelPath);
const tokenizer = createTokenizer(model.vocabulary);
const folder = await mkdtemp(join(tmpdir(), "kvengine-kl-"));
for (const text of TEXTS) {
  const ids = tokenizer.encode(await Bun.file(new URL(`texts/${text}`, import.meta.url)).text(), {
    parseSpecial: false,
  });
  const chunks = Array.from({ length: Math.floor(ids.length / CHUNK) }, (_, i) =>
    ids.slice(i * CHUNK, (i + 1) * CHUNK),
  );
  const reference: Float32Array[] = [];
  const measured: Float32Array[][] = [];
  for (const chunk of chunks) {
    reference.push(await logitsOf(model, chunk, POSITIONS, { backend: "reference" }));
    const kinds: Float32Array[] = [];
    for (const kvCacheDtype of KV_TYPES)
      kinds.push(await logitsOf(model, chunk, POSITIONS, { backend: "cpu", kvCacheDtype }));
    measured.push(kinds);
  }
  const vocabulary = model.config.vocabSize;
  const parts: Uint8Array[] = [
    new TextEncoder().encode("_logits_"),
    bytes(Int32Array.of(CHUNK, vocabulary, chunks.length)),
    ...chunks.map(bytes),
  ];
  const sums = KV_TYPES.map(() => 0);
  for (const [c, rows] of reference.entries()) {
    for (let i = 0; i < SCORED; i++) {
      const row = baseRow(rows.subarray(i * vocabulary, (i + 1) * vocabulary));
      parts.push(bytes(row));
      for (const [kind, logits] of (measured[c] ?? []).entries()) {
        const found = divergence(row, logits.subarray(i * vocabulary, (i + 1) * vocabulary));
        sums[kind] = (sums[kind] ?? 0) + found;
      }
    }
  }
  const base = join(folder, `${text}.kld`);
  await Bun.write(base, new Blob(parts as Uint8Array<ArrayBuffer>[]));
  const peer =
    flag === "--peer" && programs !== undefined
      ? await peerDivergence(programs, modelPath, base)
      : undefined;
  const ours = sums.map((sum, kind) => {
    const mean = sum / (SCORED * chunks.length);
    const ratio = peer === undefined ? "" : ` (${(mean / peer).toFixed(3)} of it)`;
    return `${KV_TYPES[kind]} ${mean.toFixed(6)}${ratio}`;
  });
  const against = peer === undefined ? "" : `llama.cpp ${peer.toFixed(6)}, `;
  console.log(
    `${text}: ${ids.length} tokens, ${chunks.length} chunks, mean KL: ${against}${ours.join(", ")}`,
  );
}
await rm(folder, { recursive: true });

function bytes(array: Int32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
