/** What a prompt token is believed to cost before a long step has told it. */

import type { TensorSource } from "../models/tape.ts";

/** What a GPU's matrix products reach at least: a third of what was measured on one of the fastest. */
const GPU_OPS_PER_SECOND = 4e13;

/**
 * Microseconds for each prompt token on a GPU: two operations a weight. Undefined on a CPU, which is so slow beside copies that a few
 * tokens tell enough.
 */
export function guessedPromptMicros(
  tensors: readonly Pick<TensorSource, "rows" | "cols">[],
  backend: string,
): number | undefined {
  if (!backend.startsWith("cuda")) return undefined;
  const weights = tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return (2 * weights * 1e6) / GPU_OPS_PER_SECOND;
}
