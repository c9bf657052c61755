/**
 * `timed_trace` and `mooncake`: real arrivals and lengths, and hashes instead of words. Lines of `{"timestamp", "input_length",
 * "output_length", "hash_ids"}`: each hash names a block of tokens and all before it, so that equal hashes are equal beginnings.
 * vLLM's traces have seconds and blocks of any size, Mooncake's have milliseconds and blocks of 512.
 */

import type { DatasetConfig } from "../../../engine/config.ts";
import type { Conversation } from "../types.ts";
import { conversation, question } from "./conversation.ts";
import type { DatasetInput, FileDataset } from "./dataset.ts";
import type { DataSource } from "./files/data-source.ts";
import { Fields, MAX_TOKENS, wrongValue } from "./files/fields.ts";
import { lines, textOf } from "./files/records.ts";
import { type KeptBytes, take } from "./files/sampling.ts";
import type { Piece } from "./pieces.ts";
import { type Streams, streams } from "./random-numbers.ts";
import { type BlockLengths, scaledBlocks, scaledLength } from "./scale.ts";
import { arrivals } from "./times.ts";

interface TraceFormat {
  /** Tokens. */
  readonly blockSize: number;
  /** Milliseconds of one unit of `timestamp`. */
  readonly unitMs: number;
}

export const TIMED_TRACE: FileDataset = {
  from: "file",
  options: [
    "num-prompts",
    "timed-trace-chunk-hash-size",
    "timed-trace-sec-multiplier",
    "length-scale",
    "self-timed",
    "slowdown-factor",
  ],
  create: (input, source) =>
    fromTrace(input, source, {
      blockSize: input.options.timedTraceChunkHashSize,
      unitMs: 1000 * input.options.timedTraceSecMultiplier,
    }),
};

export const MOONCAKE: FileDataset = {
  from: "file",
  options: ["num-prompts", "length-scale", "self-timed", "slowdown-factor"],
  create: (input, source) => fromTrace(input, source, { blockSize: 512, unitMs: 1 }),
};

interface TraceRow {
  readonly number: number;
  readonly timeMs: number;
  readonly outputLen: number;
  readonly hashes: readonly number[];
  readonly lengths: BlockLengths;
}

function fromTrace(
  input: DatasetInput,
  source: DataSource,
  format: TraceFormat,
): readonly Conversation[] {
  const { options, seed, writer } = input;
  const rows = take(input, source, lines(source), (at, kept) => {
    const place = `${source.name}, line ${at.number}`;
    const fields = new Fields(place, textOf(source, at, place));
    return { number: at.number, ...readRow(fields, format, options, kept) };
  });
  const at = arrivals(
    rows.map(({ timeMs }) => timeMs),
    options,
  );
  const families = { blocks: streams(seed, "blocks"), own: streams(seed, "unnamed tokens") };
  return rows.map((row, i) =>
    conversation(writer, {
      id: `line-${row.number}`,
      at: at[i],
      turns: [
        {
          messages: question(...piecesOf(row, writer, families)),
          maxTokens: scaledLength(row.outputLen, options.lengthScale),
        },
      ],
      ignoreEos: options.ignoreEos,
    }),
  );
}

function readRow(
  fields: Fields,
  { blockSize, unitMs }: TraceFormat,
  { lengthScale }: DatasetConfig,
  kept: KeptBytes,
): Omit<TraceRow, "number"> {
  const inputLen = fields.integer("input_length", 1, MAX_TOKENS);
  const hashes = fields.has("hash_ids") ? fields.integers("hash_ids", Number.MAX_SAFE_INTEGER) : [];
  const most = Math.ceil(inputLen / blockSize);
  if (hashes.length > most) {
    throw wrongValue(
      fields.place,
      "hash_ids",
      `${hashes.length} hashes`,
      `up to ${most}: input_length is ${inputLen}, in blocks of ${blockSize} tokens`,
    );
  }
  kept.add(8 * hashes.length);
  const named = Math.min(inputLen, hashes.length * blockSize);
  return {
    timeMs: fields.time("timestamp") * unitMs,
    outputLen: fields.integer("output_length", 0, MAX_TOKENS),
    hashes,
    lengths: scaledBlocks({ blockSize, named, unnamed: inputLen - named }, lengthScale),
  };
}

/** Tokens that no hash names are this request's own: the length is the trace's in any case. */
function piecesOf(
  { number, hashes, lengths: { blockSize, named, unnamed } }: TraceRow,
  writer: DatasetInput["writer"],
  { blocks, own }: { readonly blocks: Streams; readonly own: Streams },
): Piece[] {
  if (hashes.length === 0) return [writer.opening(own, number, unnamed)];
  const first = writer.blocks(blocks, hashes, blockSize, named);
  return unnamed === 0 ? [first] : [first, writer.following(own, number, unnamed)];
}
