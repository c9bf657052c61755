/**
 * What a test cannot do without: each step reads the weight matrices once, and each row is multiplied with them. Counted on
 * the model's tape, so that what only sampled rows go through (the last layer behind its attention, and the output matrix)
 * counts for those rows only. Attention, norms and the KV that is read are left out: no share is too high because of them.
 */

import type { LoadedModel } from "../../../engine/models/registry.ts";
import type { Factors } from "../../../engine/runner/native.ts";
import type { Row } from "./grid.ts";

/** Multiply-accumulates by what they are done in: quantised weights in int8, float weights in fp32. */
export type Macs = Readonly<Record<Extract<Factors, "int8" | "fp32">, number>>;

export interface ModelWork {
  /** Bytes of the matrices that a step reads. */
  readonly weightBytes: number;
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
}

export function workOf(model: Pick<LoadedModel, "tape" | "tensors">): ModelWork {
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
  return { weightBytes, perToken, perSample };
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
    phases.push({ steps: Math.ceil(tokens / maxBatchedTokens), tokens, samples: prompts });
  }
  if (row.n_gen > 0) {
    const tokens = row.n_gen * row.n_parallel;
    phases.push({ steps: row.n_gen, tokens, samples: tokens });
  }
  return phases;
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
  for (const { steps, tokens, samples } of phases) {
    const reading = (steps * work.weightBytes) / peaks.read;
    const time = (factors: keyof Macs): number =>
      (tokens * work.perToken[factors] + samples * work.perSample[factors]) / peaks[factors];
    const [int8, fp32] = [time("int8"), time("fp32")];
    seconds += Math.max(reading, int8 + fp32);
    bounds.add(reading >= int8 + fp32 ? "read" : int8 >= fp32 ? "int8" : "fp32");
  }
  return { ns: seconds * 1e9, bounds: [...bounds] };
}
