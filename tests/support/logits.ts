/** Logits of a model on one backend, without an engine: one sequence, whole in one step. */

import type { LoadedModel } from "../../engine/models/registry.ts";
import { Runner } from "../../engine/runner/native.ts";

const BLOCK_SIZE = 16;

export interface LogitsOptions {
  readonly backend: "cpu" | "reference";
  readonly isa?: string;
  readonly threads?: number;
}

/** `[sampled, vocabulary]`: logits at the positions `sampled` (ascending) of `tokens`. */
export async function logitsOf(
  model: LoadedModel,
  tokens: ArrayLike<number>,
  sampled: readonly number[],
  { backend, isa = "auto", threads = 2 }: LogitsOptions,
): Promise<Float32Array> {
  const numBlocks = Math.ceil(tokens.length / BLOCK_SIZE);
  const runner = await Runner.create(
    {
      backend,
      isa,
      threads,
      values: model.tape.values,
      ops: model.tape.ops,
      files: model.files,
      tensors: model.tensors,
      groups: model.groups,
      blockSize: BLOCK_SIZE,
      numBlocks: numBlocks + 1,
      maxTokens: tokens.length,
      maxRows: 1,
      maxModelLen: tokens.length,
      vocabSize: model.config.vocabSize,
    },
    () => undefined,
  );
  try {
    return await runner.logits(oneRow(tokens, sampled, numBlocks));
  } finally {
    await runner.stop();
  }
}

/** Layout: `kernels/core/src/step.rs`. */
function oneRow(
  tokens: ArrayLike<number>,
  sampled: readonly number[],
  numBlocks: number,
): Int32Array {
  const blocks = Array.from({ length: numBlocks }, (_, i) => i + 1);
  const header = [1, 0, tokens.length, 1, 1, sampled.length, numBlocks, 0];
  const row = [0, 0, tokens.length, 0];
  return Int32Array.from([
    ...header,
    ...Array.from(tokens),
    ...row,
    ...sampled,
    0,
    numBlocks,
    ...blocks,
  ]);
}
