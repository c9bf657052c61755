/**
 * `burstgpt`: when requests came to a real service, and how long they and their answers were; the words are random. A CSV file with
 * the columns `Timestamp` (seconds), `Model`, `Request tokens` and `Response tokens`, in any order, others beside them.
 */

import type { DatasetConfig } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { conversation, question } from "./conversation.ts";
import type { FileDataset } from "./dataset.ts";
import type { DataSource } from "./files/data-source.ts";
import { MAX_TOKENS, wrongValue } from "./files/fields.ts";
import { lines, type RecordPlace, textOf } from "./files/records.ts";
import { take } from "./files/sampling.ts";
import { streams } from "./random-numbers.ts";
import { scaledLength } from "./scale.ts";
import { arrivals } from "./times.ts";

const COLUMNS = ["Timestamp", "Model", "Request tokens", "Response tokens"] as const;
/** `--burstgpt-model` for rows of all models. */
const ANY = "any";

interface Row {
  /** Seconds. */
  readonly timestamp: number;
  readonly inputLen: number;
  readonly outputLen: number;
}

export const BURSTGPT: FileDataset = {
  from: "file",
  options: ["num-prompts", "burstgpt-model", "length-scale", "self-timed", "slowdown-factor"],
  create(input, source) {
    const { options, seed, writer } = input;
    const places = lines(source);
    const header = places.next();
    const columns = readHeader(source, header.done === true ? undefined : header.value);
    const rows = take(input, source, places, (at) => readRow(source, at, columns, options));
    const at = arrivals(
      rows.map(({ timestamp }) => timestamp * 1000),
      options,
    );
    const prompts = streams(seed, "burstgpt");
    return rows.map(({ inputLen, outputLen }, i) => {
      const prompt = writer.opening(prompts, i, scaledLength(inputLen, options.lengthScale));
      const maxTokens = scaledLength(outputLen, options.lengthScale);
      return conversation(writer, {
        id: `burstgpt-${i}`,
        at: at[i],
        turns: [{ messages: question(prompt), maxTokens }],
        ignoreEos: options.ignoreEos,
      });
    });
  },
};

/** Where each of `COLUMNS` stands. */
function readHeader(source: DataSource, at: RecordPlace | undefined): readonly number[] {
  const place = `${source.name}, line 1`;
  const names = at === undefined ? [] : cells(textOf(source, at, place));
  return COLUMNS.map((column) => {
    const found = names.indexOf(column);
    if (found >= 0) return found;
    throw new KvEngineError(
      "bad_config",
      `${place}: there is no column "${column}"; needed are ${COLUMNS.join(", ")}`,
      { subject: source.name },
    );
  });
}

/** Undefined for rows of other models and for requests that failed, which have no answer. */
function readRow(
  source: DataSource,
  at: RecordPlace,
  columns: readonly number[],
  { burstgptModel }: DatasetConfig,
): Row | undefined {
  const place = `${source.name}, line ${at.number}`;
  const row = cells(textOf(source, at, place));
  const [timestamp, model, input, output] = columns.map((column) => row[column]);
  if (burstgptModel !== ANY && model !== burstgptModel) return undefined;
  const outputLen = integer(place, "Response tokens", output, 0);
  if (outputLen === 0) return undefined;
  const seconds = timestamp === "" ? Number.NaN : Number(timestamp);
  if (!Number.isFinite(seconds) || seconds < 0)
    throw wrongValue(place, "Timestamp", timestamp, "seconds, at least 0");
  return { timestamp: seconds, inputLen: integer(place, "Request tokens", input, 1), outputLen };
}

/** No value of this table holds a comma. */
function cells(line: string): string[] {
  return line.split(",").map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
}

function integer(place: string, column: string, cell: string | undefined, min: number): number {
  const value = cell !== undefined && /^\d+(\.0)?$/.test(cell) ? Number(cell) : Number.NaN;
  if (value >= min && value <= MAX_TOKENS) return value;
  throw wrongValue(place, column, cell, `an integer of ${min} to ${MAX_TOKENS}`);
}
