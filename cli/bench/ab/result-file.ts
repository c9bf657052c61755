/**
 * Result files for `bench compare`: what `bench` writes with `--report x.json` (one run, or several in `runs`), lists of such objects,
 * and vLLM's own files, whose keys are the same (`--save-result`; with `--append-result` one object a line).
 */

import { z } from "zod";
import { KvEngineError } from "../../../engine/errors.ts";
import { metricKind } from "../metrics/flat-metrics.ts";
import type { ResultRow, Side } from "./comparison.ts";

/** What must be there; all other keys are read where they are numbers or conditions. */
const RESULT = z.looseObject({
  label: z.string().nullish(),
  date: z.string().nullish(),
  started_at: z.string().nullish(),
  duration: z.number().nonnegative(),
  completed: z.int().nonnegative(),
});
type Result = z.infer<typeof RESULT>;

/** The runs of a file, in its order. Throws `bad_config` for what is no result file, naming the path and the place. */
export async function readResultFile(path: string): Promise<ResultRow[]> {
  let text: string;
  try {
    text = await Bun.file(path).text();
  } catch (cause) {
    throw new KvEngineError("bad_config", `the result file ${path} cannot be read`, {
      subject: path,
      cause,
    });
  }
  return parseResults(text, path);
}

export function parseResults(text: string, path: string): ResultRow[] {
  const found = parseJson(text, path).flatMap(runsIn);
  if (found.length === 0) throw badFile(path, "holds no run");
  const rows = found.map((value, i) =>
    rowOfResult(value, path, found.length === 1 ? path : `${path}, run ${i + 1}`),
  );
  if (rows.every(({ metrics }) => Object.keys(metrics).every((key) => !isCompared(key))))
    throw badFile(path, "has no throughput and no latency to compare");
  return rows;
}

/** A whole JSON document, else one a line. */
function parseJson(text: string, path: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch (cause) {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    if (lines.length < 2) throw badFile(path, "is no JSON", cause);
    return lines.map((line, i) => {
      try {
        return JSON.parse(line) as unknown;
      } catch (cause) {
        throw badFile(`${path}, line ${i + 1}`, "is no JSON", cause);
      }
    });
  }
}

function runsIn(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  const isTable = typeof value === "object" && value !== null;
  return isTable && "runs" in value && Array.isArray(value.runs) ? value.runs : [value];
}

function badFile(place: string, what: string, cause?: unknown): KvEngineError {
  return new KvEngineError("bad_config", `${place}: ${what}`, {
    subject: place,
    hint: "`bench serve --report a.json` writes such a file; result files of `vllm bench serve` are read too",
    ...(cause === undefined ? {} : { cause }),
  });
}

function isCompared(key: string): boolean {
  return metricKind(key) !== undefined && key !== "duration" && key !== "completed";
}

/** One run's object. `label` is for those that have none, `place` for messages. Throws `bad_config`. */
export function rowOfResult(value: unknown, label: string, place: string = label): ResultRow {
  const checked = RESULT.safeParse(value);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const key = issue?.path.join(".") ?? "";
    throw badFile(place, `${key === "" ? "" : `\`${key}\`: `}${issue?.message ?? "is malformed"}`);
  }
  const result = checked.data;
  const metrics = Object.entries(result).filter(
    (entry): entry is [string, number] => typeof entry[1] === "number",
  );
  const startedAt = startOf(result);
  return {
    label: result.label ?? label,
    ...(startedAt === undefined ? {} : { startedAt }),
    metrics: Object.fromEntries(metrics),
    conditions: conditionsOf(result),
  };
}

/** Milliseconds. vLLM's `20260131-235900` has no zone: only differences count. */
function startOf({ started_at, date }: Result): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)$/.exec(date ?? "");
  const compact =
    parts === null ? undefined : `${parts.slice(1, 4).join("-")}T${parts.slice(4, 7).join(":")}Z`;
  const time = Date.parse(started_at ?? compact ?? "");
  return Number.isNaN(time) ? undefined : time;
}

/** Sides that differ in one of these did different work, or counted it differently. */
const CONDITIONS = [
  "model_id",
  "dataset_name",
  "dataset",
  "request_rate",
  "burstiness",
  "max_concurrency",
  "max_duration",
  "goodput",
  "cache_state",
  "itl_of",
  "stopped",
];

function conditionsOf(result: Result): Record<string, string> {
  // A run that ends by time has as many requests as it managed.
  const names = isGiven(result["max_duration"]) ? CONDITIONS : [...CONDITIONS, "num_prompts"];
  return Object.fromEntries(
    names
      .filter((name) => isGiven(result[name]))
      .map((name) => {
        const value = result[name];
        const text = typeof value === "string" ? value : JSON.stringify(value);
        return [name, name === "model_id" ? modelName(text) : text];
      }),
  );
}

/** Of a file's path its name: servers spell the same model differently. */
function modelName(id: string): string {
  return (id.split(/[/\\]/).at(-1) ?? id).replace(/\.gguf$/, "");
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/**
 * The sides of a comparison: one file with several labels (an A/B session), or two files, a side each. Throws `bad_config` for one
 * file with one label.
 */
export function sidesOf(
  files: readonly { readonly path: string; readonly rows: readonly ResultRow[] }[],
): Side[] {
  const [only, ...more] = files;
  if (only === undefined || more.length > 0)
    return files.map(({ path, rows }) => ({ label: fileLabel(path, rows), runs: rows }));
  const labels = [...new Set(only.rows.map(({ label }) => label))];
  if (labels.length < 2) {
    throw new KvEngineError(
      "bad_config",
      `${only.path} has one side only, ${labels[0]}: there is nothing to compare it with`,
      { subject: only.path, hint: "give a second file: kvengine bench compare a.json b.json" },
    );
  }
  return labels.map((label) => ({
    label,
    runs: only.rows.filter((row) => row.label === label),
  }));
}

/** The label that all runs share, with the file. */
function fileLabel(path: string, rows: readonly ResultRow[]): string {
  const [label, ...others] = new Set(rows.map((row) => row.label));
  return label === undefined || others.length > 0 || label === path ? path : `${label} (${path})`;
}
