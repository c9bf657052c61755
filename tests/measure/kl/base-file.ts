/**
 * The file of `llama-perplexity --kl-divergence-base`: `_logits_`, n_ctx, n_vocab, n_chunk, token ids, then of each chunk a row of
 * log-probabilities for every position of its second half that has a next token, rounded to 16 bits (llama.cpp
 * `tools/perplexity/perplexity.cpp`).
 */

/** Tokens of a chunk. */
export const CHUNK = 512;
/** Positions of a chunk that are scored. */
export const POSITIONS: readonly number[] = Array.from(
  { length: CHUNK / 2 - 1 },
  (_, i) => CHUNK / 2 + i,
);

/** The log-probabilities of a chunk as the file has them. */
export interface BaseChunk {
  readonly ids: Int32Array;
  readonly vocabSize: number;
  /** One for each of the positions: f32 scale, f32 lowest log-probability, then u16 a token, padded to an even count. */
  readonly rows: readonly Uint16Array[];
}

const MAGIC = new TextEncoder().encode("_logits_");
/** Of a row: scale and lowest log-probability. */
const ROW_HEAD = 4;

/** `logits`: `[positions, vocabulary]`. */
export function baseChunk(ids: Int32Array, vocabSize: number, logits: Float32Array): BaseChunk {
  const rows = POSITIONS.map((_, i) => baseRow(rowOf(logits, i, vocabSize)));
  return { ids, vocabSize, rows };
}

/** A file of one chunk. */
export function writeBase({ ids, vocabSize, rows }: BaseChunk): Blob {
  const parts = [MAGIC, Int32Array.of(CHUNK, vocabSize, 1), ids, ...rows];
  return new Blob(parts.map((part) => part.slice()));
}

/** The chunks of a file, at most so many. */
export function readBase(file: Uint8Array, most: number): BaseChunk[] {
  const at = (from: number, bytes: number): ArrayBuffer => file.slice(from, from + bytes).buffer;
  const [, vocabSize = 0, numChunks = 0] = new Int32Array(at(MAGIC.length, 12));
  const idsFrom = MAGIC.length + 12;
  const rowsFrom = idsFrom + 4 * CHUNK * numChunks;
  const rowBytes = 2 * (2 * Math.ceil(vocabSize / 2) + ROW_HEAD);
  return Array.from({ length: Math.min(most, numChunks) }, (_, chunk) => ({
    ids: new Int32Array(at(idsFrom + 4 * CHUNK * chunk, 4 * CHUNK)),
    vocabSize,
    rows: POSITIONS.map((_, i) => {
      const row = chunk * POSITIONS.length + i;
      return new Uint16Array(at(rowsFrom + row * rowBytes, rowBytes));
    }),
  }));
}

/** Mean KL divergence of a chunk's positions, summed as the peer sums it (terms below exp(-16) left out). */
export function meanDivergence({ rows, vocabSize }: BaseChunk, logits: Float32Array): number {
  const each = rows.map((row, i) => divergence(row, rowOf(logits, i, vocabSize)));
  return each.reduce((sum, one) => sum + one, 0) / rows.length;
}

function rowOf(logits: Float32Array, row: number, vocabSize: number): Float32Array {
  return logits.subarray(row * vocabSize, (row + 1) * vocabSize);
}

function baseRow(logits: Float32Array): Uint16Array {
  const row = new Uint16Array(2 * Math.ceil(logits.length / 2) + ROW_HEAD);
  let max = -Infinity;
  let min = Infinity;
  for (const x of logits) {
    max = Math.max(max, x);
    min = Math.min(min, x);
  }
  min = Math.max(min, max - 16);
  const head = new Float32Array(row.buffer, 0, 2);
  head[0] = (max - min) / 65_535;
  head[1] = min - max - logSumExp(logits, max);
  const inverse = 1 / head[0];
  for (const [i, x] of logits.entries())
    row[ROW_HEAD + i] = x > min ? Math.round(inverse * (x - min)) : 0;
  return row;
}

function logSumExp(logits: Float32Array, max: number): number {
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - max);
  return Math.log(sum);
}

function divergence(base: Uint16Array, logits: Float32Array): number {
  const [scale = 0, lowest = 0] = new Float32Array(base.buffer, 0, 2);
  let max = -Infinity;
  for (const x of logits) max = Math.max(max, x);
  const normaliser = max + logSumExp(logits, max);
  let sum = 0;
  for (const [i, x] of logits.entries()) {
    const logBase = scale * (base[ROW_HEAD + i] ?? 0) + lowest;
    if (logBase > -16) sum += Math.exp(logBase) * (logBase - x + normaliser);
  }
  return sum;
}
