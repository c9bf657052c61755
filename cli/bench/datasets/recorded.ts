/**
 * `recorded`: what `kvengine serve --record` wrote, sent again: the same arrivals and lengths, and the same sharing of prompts by
 * blocks. A request whose prompt holds another one's answer is that one's next turn, and gets the answer that comes this time.
 */

import type { Conversation, Answer, Turn } from "../types.ts";
import type { DatasetInput, FileDataset } from "./dataset.ts";
import { Fields, MAX_TOKENS, wrongValue } from "./files/fields.ts";
import { lines, textOf } from "./files/records.ts";
import { type KeptBytes, take } from "./files/sampling.ts";
import { joinFollowUps } from "./follow-ups.ts";
import { append, type PromptWriter } from "./prompt-writer.ts";
import { type Streams, streams } from "./random-numbers.ts";
import { arrivals } from "./times.ts";

export const RECORDED: FileDataset = {
  from: "file",
  options: ["num-prompts", "self-timed", "slowdown-factor"],
  create(input, source) {
    const rows = take(input, source, lines(source), (at, kept) => {
      const place = `${source.name}, line ${at.number}`;
      const fields = new Fields(place, textOf(source, at, place));
      return { number: at.number, ...readRow(fields, input.writer, kept) };
    });
    const { conversations, branches } = joinFollowUps(rows);
    const followUps = rows.length - conversations.length;
    if (followUps > 0) input.note("recorded-follow-ups", followUps);
    if (branches > 0) input.note("recorded-branches", branches);
    const at = arrivals(
      conversations.map(([first]) => first.timeMs),
      input.options,
    );
    const blocks = streams(input.seed, "blocks");
    return conversations.map((turns, i) => replayed(input, blocks, turns, at[i]));
  },
};

export interface RecordedRow {
  /** Its line. */
  readonly number: number;
  /** Milliseconds since the epoch: arrival and end. */
  readonly timeMs: number;
  readonly endMs: number;
  /** Tokens. */
  readonly inputLen: number;
  readonly outputLen: number;
  readonly blockSize: number;
  /** Names of the prompt's blocks; the last may not be full. */
  readonly hashes: readonly number[];
  /** Names of the full blocks with tokens of the output. */
  readonly outputHashes: readonly number[];
  /** Where the content was recorded. */
  readonly promptIds?: readonly number[];
}

function readRow(
  fields: Fields,
  writer: PromptWriter,
  kept: KeptBytes,
): Omit<RecordedRow, "number"> {
  const inputLen = fields.integer("input_length", 1, MAX_TOKENS);
  const blockSize = fields.integer("block_size", 1, MAX_TOKENS);
  const hashes = fields.integers("hash_ids", Number.MAX_SAFE_INTEGER);
  const numBlocks = Math.ceil(inputLen / blockSize);
  if (hashes.length !== numBlocks) {
    throw wrongValue(
      fields.place,
      "hash_ids",
      `${hashes.length} hashes`,
      `${numBlocks}: input_length is ${inputLen}, in blocks of ${blockSize} tokens`,
    );
  }
  const outputHashes = fields.integers("output_hash_ids", Number.MAX_SAFE_INTEGER);
  const promptIds = fields.has("prompt_token_ids")
    ? fields.integers("prompt_token_ids", writer.vocabSize - 1)
    : undefined;
  if (promptIds !== undefined && promptIds.length !== inputLen) {
    throw wrongValue(
      fields.place,
      "prompt_token_ids",
      `${promptIds.length} ids`,
      `input_length of them, ${inputLen}`,
    );
  }
  kept.add(8 * (hashes.length + outputHashes.length + (promptIds?.length ?? 0)));
  const timeMs = fields.time("timestamp");
  return {
    timeMs,
    endMs: timeMs + fields.time("duration_ms"),
    inputLen,
    outputLen: fields.integer("output_length", 0, MAX_TOKENS),
    blockSize,
    hashes,
    outputHashes,
    ...(promptIds === undefined ? {} : { promptIds }),
  };
}

function replayed(
  { options, writer }: DatasetInput,
  blocks: Streams,
  rows: readonly [RecordedRow, ...RecordedRow[]],
  at: number | undefined,
): Conversation {
  const prompts = rows.map((row) => new RecordedPrompt(row, writer, blocks));
  return {
    id: `line-${rows[0].number}`,
    ...(at === undefined ? {} : { at }),
    turns: rows.map((row, index): Turn => {
      const before = rows[index - 1];
      const pause = before === undefined ? 0 : Math.max(0, row.timeMs - before.endMs);
      return {
        thinkTimeMs: options.selfTimed ? pause * options.slowdownFactor : 0,
        // A request that was given up before its first token is asked for one.
        maxTokens: Math.max(1, row.outputLen),
        ignoreEos: options.ignoreEos,
        ...(writer.form === "chat" ? {} : { numPromptTokens: row.inputLen }),
        prompt: (answers) => writer.writeIds(grown(writer, prompts.slice(0, index + 1), answers)),
      };
    }),
  };
}

/** The tokens of one recorded prompt. */
class RecordedPrompt {
  readonly row: RecordedRow;
  readonly #drawn: ReturnType<PromptWriter["blocks"]>;
  readonly #given: readonly number[] | undefined;

  constructor(row: RecordedRow, writer: PromptWriter, blocks: Streams) {
    this.row = row;
    this.#drawn = writer.blocks(blocks, row.hashes, row.blockSize, row.inputLen);
    // Ids say nothing in a text: what templates write is lost in it.
    this.#given = writer.form === "tokens" ? row.promptIds : undefined;
  }

  /** Those from a position on. */
  from(start: number): ArrayLike<number> {
    return this.#given?.slice(start) ?? this.#drawn.tokenIdsFrom(start);
  }

  /** Tokens of this prompt and its answer that a later prompt repeats: whole blocks. */
  get numRepeated(): number {
    const { inputLen, blockSize, outputHashes } = this.row;
    return (Math.floor(inputLen / blockSize) + outputHashes.length) * blockSize;
  }
}

/** The last of these prompts: what was sent and answered before as far as it repeats it, then its own tokens. */
function grown(
  writer: PromptWriter,
  prompts: readonly RecordedPrompt[],
  answers: readonly Answer[],
): number[] {
  const ids: number[] = [];
  for (const [turn, prompt] of prompts.entries()) {
    const before = prompts[turn - 1];
    const answer = answers[turn - 1];
    if (before !== undefined && answer !== undefined) {
      append(ids, writer.answerIds(answer));
      ids.length = Math.min(ids.length, before.numRepeated);
    }
    append(ids, prompt.from(ids.length));
  }
  return ids;
}
