/** Logits of a model on one backend, without an engine: one sequence, whole in one step or in chunks. */

import type { LoadedModel } from "../../engine/models/registry.ts";
import type { KvGroup } from "../../engine/models/tape.ts";
import { type ProgramSpec, Runner } from "../../engine/runner/native.ts";
import { stepWords } from "./step-words.ts";

const BLOCK_SIZE = 16;

export interface LogitsOptions {
  readonly backend: string;
  readonly isa?: string;
  readonly threads?: number;
  readonly kvCacheDtype?: string;
  /** Tokens of each step, the last size again and again; default: all in one. */
  readonly chunks?: readonly number[];
  /** Blocks that have left a window are null in later steps. Default: all stay. */
  readonly nulls?: boolean;
}

/** `[sampled, vocabulary]`: logits at the positions `sampled` (ascending) of `tokens`. */
export async function logitsOf(
  model: LoadedModel,
  tokens: ArrayLike<number>,
  sampled: readonly number[],
  options: LogitsOptions,
): Promise<Float32Array> {
  const { backend, isa = "auto", threads = 2, kvCacheDtype = "auto" } = options;
  const { chunks = [tokens.length], nulls = false } = options;
  const each = Math.ceil(tokens.length / BLOCK_SIZE);
  const spec = specOf(model, {
    backend,
    isa,
    threads,
    kvCacheDtype,
    maxTokens: tokens.length,
    numBlocks: each * model.groups.length + 1,
  });
  const runner = await Runner.create(spec, () => undefined);
  const rows: Float32Array[] = [];
  try {
    let start = 0;
    for (let i = 0; start < tokens.length; i++) {
      const end = Math.min(start + (chunks[i] ?? chunks.at(-1)!), tokens.length);
      const wanted = sampled.filter((position) => position >= start && position < end);
      const row = {
        seat: 0,
        start,
        tokens: Array.from(tokens).slice(start, end),
        // No pick is made: any target will do.
        samples: wanted.map((position) => [position - start, 0] as const),
        tables: model.groups.map((group, g) => table(group, g * each, end, nulls ? start : 0)),
      };
      rows.push(await runner.logits(stepWords(i, [row])));
      start = end;
    }
  } finally {
    await runner.stop();
  }
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}

/** Blocks for positions below `end`; those that no position from `start` on sees are null. */
function table({ kind, window }: KvGroup, before: number, end: number, start: number): number[] {
  const seenFrom = kind === "window" ? Math.max(0, start - window + 1) : 0;
  return Array.from({ length: Math.ceil(end / BLOCK_SIZE) }, (_, i) =>
    (i + 1) * BLOCK_SIZE <= seenFrom ? 0 : before + i + 1,
  );
}

/** A program of this model for one sequence. */
export function specOf(
  model: LoadedModel,
  options: Pick<
    ProgramSpec,
    "backend" | "isa" | "threads" | "kvCacheDtype" | "maxTokens" | "numBlocks"
  >,
): ProgramSpec {
  return {
    ...options,
    values: model.tape.values,
    ops: model.tape.ops,
    files: model.files,
    tensors: model.tensors,
    groups: model.groups,
    blockSize: BLOCK_SIZE,
    maxRows: 1,
    maxSamples: 8,
    maxModelLen: Math.max(options.maxTokens, model.config.contextLength),
    vocabSize: model.config.vocabSize,
  };
}
