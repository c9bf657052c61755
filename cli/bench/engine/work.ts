/**
 * What a test cannot do without: each step reads the weight matrices once, and the KV that was there before it; each row is
 * multiplied with the matrices. Counted on the model's tape, so that what only sampled rows go through (the last layer behind
 * its attention, and the output matrix) counts for those rows only. What attention multiplies, norms and KV that a prompt reads of
 * its own are left out: no share is too high because of them.
 */

import type { LoadedModel } from "../../../engine/models/registry.ts";
import type { Factors } from "../../../engine/runner/native.ts";
import type { Row } from "./grid.ts";

/** Multiply-accumulates by what they are done in: quantised weights in int8, float weights in fp32. */
export type Macs = Readonly<Record<Extract<Factors, "int8" | "fp32">, number>>;

export interface ModelWork {
  /** Bytes of the matrices that a step reads. */
  readonly weightBytes: number;
  /** Groups of layers that keep KV of tokens: how many of the last tokens a token sees (0 = all), and bytes of one token. */
  readonly kv: readonly { readonly window: number; readonly bytes: number }[];
  /** Of each token of a step. */
  readonly perToken: Macs;
  /** Of each token behind which one is picked, beside the other. */
  readonly perSample: Macs;
}

/** A stretch of a test that has one kind of steps. */
export interface Phase {
  readonly steps: number;
  readonly tokens: number;
  readonly samples: number;
  readonly context: Context;
}

/** KV that the steps of a phase find. */
export interface Context {
  readonly sequences: number;
  /** Tokens of each sequence that are there before the first step. */
  readonly before: number;
  /** Of these, the first ones that all sequences have in common: they are read once. */
  readonly shared: number;
  /** Tokens of each sequence that a step adds for the next ones to read. */
  readonly growth: number;
}

/** `kvBytesPerToken`: of one group of layers. */
export function workOf(
  model: Pick<LoadedModel, "tape" | "tensors" | "groups">,
  kvBytesPerToken: number,
): ModelWork {
  const tensors = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  const perToken = { int8: 0, fp32: 0 };
  const perSample = { int8: 0, fp32: 0 };
  let weightBytes = 0;
  for (const op of model.tape.ops) {
    if (op.op !== "linear") continue;
    const macs = model.tape.values[op.out]?.rows === "samples" ? perSample : perToken;
    for (const name of op.weights) {
      const tensor = tensors.get(name);
      if (tensor === undefined) continue;
      weightBytes += tensor.bytes;
      macs[isFloat(tensor.dtype) ? "fp32" : "int8"] += tensor.rows * tensor.cols;
    }
  }
  const kv = model.groups
    .filter(({ kind }) => kind !== "state")
    .map(({ window }) => ({ window, bytes: kvBytesPerToken }));
  return { weightBytes, kv, perToken, perSample };
}

function isFloat(dtype: string): boolean {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** The stretches of a row, where a step takes `maxBatchedTokens` tokens of prompts. */
export function phasesOf(row: Row, maxBatchedTokens: number): readonly Phase[] {
  const phases: Phase[] = [];
  const prompts = row.shared_prompt ? 1 : row.n_parallel;
  if (row.n_prompt > 0) {
    const tokens = row.n_prompt * prompts;
    const steps = Math.ceil(tokens / maxBatchedTokens);
    const context = { sequences: prompts, before: row.n_depth, shared: 0, growth: 0 };
    phases.push({ steps, tokens, samples: prompts, context });
  }
  if (row.n_gen > 0) {
    const tokens = row.n_gen * row.n_parallel;
    const before = row.n_depth + row.n_prompt;
    const shared = row.shared_prompt ? before : 0;
    const context = { sequences: row.n_parallel, before, shared, growth: 1 };
    phases.push({ steps: row.n_gen, tokens, samples: tokens, context });
  }
  return phases;
}

/** Bytes of KV that the steps of a phase read, each once where sequences share it. */
export function kvBytesOf({ steps, context }: Phase, { kv }: ModelWork): number {
  const { sequences, before, growth } = context;
  let bytes = 0;
  for (const group of kv) {
    for (let step = 0; step < steps; step++) {
      const there = before + step * growth;
      const seen = group.window > 0 ? Math.min(group.window, there) : there;
      const shared = Math.max(0, context.shared - (there - seen));
      bytes += group.bytes * (shared + sequences * (seen - shared));
    }
  }
  return bytes;
}

/** What the machine gives: bytes and multiply-accumulates a second. */
export interface Peaks {
  readonly read: number;
  readonly int8: number;
  readonly fp32: number;
}

export type Bound = keyof Peaks;

export interface Floor {
  /** Nanoseconds that the row takes at least. */
  readonly ns: number;
  /** By what its phases are bound, without repetitions. */
  readonly bounds: readonly Bound[];
}

/** The least time of a row on a machine with these peaks: in each phase reading or multiplying decides. */
export function floorOf(phases: readonly Phase[], work: ModelWork, peaks: Peaks): Floor {
  let seconds = 0;
  const bounds = new Set<Bound>();
  for (const phase of phases) {
    const { steps, tokens, samples } = phase;
    const reading = (steps * work.weightBytes + kvBytesOf(phase, work)) / peaks.read;
    const time = (factors: keyof Macs): number =>
      (tokens * work.perToken[factors] + samples * work.perSample[factors]) / peaks[factors];
    const [int8, fp32] = [time("int8"), time("fp32")];
    seconds += Math.max(reading, int8 + fp32);
    bounds.add(reading >= int8 + fp32 ? "read" : int8 >= fp32 ? "int8" : "fp32");
  }
  return { ns: seconds * 1e9, bounds: [...bounds] };
}
