/**
 * Mean KL divergence of the cpu backend's logits to fp32 on a model file, in `llama-perplexity`'s terms: chunks of 512 tokens,
 * every position of the second half that has a next token, fp32's log-probabilities rounded to 16 bits as its
 * `--kl-divergence-base` file stores them.
 *
 *   bun tests/measure/kl-divergence.ts MODEL.gguf [--peer DIR] [--fp32 reference|peer] [--text FILE]... [--chunks N] [--kv q16,f16]
 *
 * With `--peer DIR` (of llama.cpp's programs) the same base files are given to the peer, one for each chunk, and ratios are printed:
 * of the means, and the geometric mean over the chunks with its 95 % interval. fp32 is the reference backend, or, much
 * faster, the peer with weights and KV in f32.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { pairedInterval } from "../../cli/bench/ab/ratio-interval.ts";
import { mean } from "../../cli/bench/metrics/distribution.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { createTokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { logitsOf } from "../support/logits.ts";
import {
  type BaseChunk,
  baseChunk,
  CHUNK,
  meanDivergence,
  POSITIONS,
  readBase,
  writeBase,
} from "./kl/base-file.ts";
import { peerDivergence, writePeerBase } from "./kl/peer.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peer: { type: "string" },
    fp32: { type: "string", default: "reference" },
    text: { type: "string", multiple: true },
    chunks: { type: "string", default: "1000" },
    kv: { type: "string", default: "q16,f16,bf16,q8" },
  },
});
const { peer, fp32 } = values;
const [modelPath] = positionals;
if (modelPath === undefined || (fp32 === "peer" && peer === undefined))
  throw new Error("usage: kl-divergence.ts MODEL.gguf [--peer DIR] [--fp32 reference|peer] ...");
const texts =
  values.text ??
  ["prose.txt", "code.txt"].map((name) => fileURLToPath(new URL(`texts/${name}`, import.meta.url)));
const kinds = values.kv.split(",");
const most = Number(values.chunks);

const model = await loadModel(modelPath);
const folder = await mkdtemp(join(tmpdir(), "kvengine-kl-"));
try {
  for (const text of texts) {
    const chunks = fp32 === "peer" ? await peerChunks(text) : await referenceChunks(text);
    if (chunks.length === 0)
      throw new Error(
        `${text} is too short: the reference takes texts of ${CHUNK} tokens and more, the peer of twice as many`,
      );
    const ours: number[][] = kinds.map(() => []);
    const theirs: number[] = [];
    for (const chunk of chunks) {
      for (const [kind, kvCacheDtype] of kinds.entries()) {
        const logits = await logitsOf(model, chunk.ids, POSITIONS, {
          backend: "cpu",
          kvCacheDtype,
        });
        ours[kind]?.push(meanDivergence(chunk, logits));
      }
      if (peer === undefined) continue;
      const file = join(folder, "chunk");
      await Bun.write(file, writeBase(chunk));
      theirs.push(await peerDivergence(peer, modelPath, file));
    }
    console.log(`${basename(text)}, ${chunks.length} chunks`);
    if (theirs.length > 0) console.log(`  llama.cpp ${mean(theirs).toFixed(6)}`);
    for (const [kind, name] of kinds.entries())
      console.log(`  ${name} ${said(ours[kind], theirs)}`);
  }
} finally {
  await rm(folder, { recursive: true });
}

/** Means of chunks and what they are of the peer's. */
function said(ours: readonly number[] = [], theirs: readonly number[]): string {
  const all = mean(ours);
  if (theirs.length === 0) return all.toFixed(6);
  const ratio = `${all.toFixed(6)}, of the peer's ${(all / mean(theirs)).toFixed(3)}`;
  const pairs = theirs.map((a, i) => ({ a, b: ours[i] ?? Number.NaN, aFirst: true }));
  const interval = pairedInterval(pairs);
  if (interval === undefined) return ratio;
  const [each, low, high] = [interval.ratio, interval.low, interval.high].map((x) => x.toFixed(3));
  return `${ratio}; chunk by chunk ${each} [${low}, ${high}]`;
}

async function referenceChunks(text: string): Promise<BaseChunk[]> {
  const ids = createTokenizer(model.vocabulary).encode(await Bun.file(text).text(), {
    parseSpecial: false,
  });
  const chunks: BaseChunk[] = [];
  for (let from = 0; from + CHUNK <= ids.length && chunks.length < most; from += CHUNK) {
    const chunk = Int32Array.from(ids.slice(from, from + CHUNK));
    const logits = await logitsOf(model, chunk, POSITIONS, { backend: "reference" });
    chunks.push(baseChunk(chunk, model.config.vocabSize, logits));
  }
  return chunks;
}

async function peerChunks(text: string): Promise<BaseChunk[]> {
  const base = await writePeerBase(peer ?? "", modelPath ?? "", text, folder, most);
  return readBase(await Bun.file(base).bytes(), most);
}
