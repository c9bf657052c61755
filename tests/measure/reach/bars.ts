/** How many times llama.cpp's rate each row has to reach, by shape and weight type. */

import type { LoadedModel } from "../../../engine/models/registry.ts";
import type { RowName } from "./rows.ts";

/** What a row is held against: which model, which instruction set. */
export interface Held {
  readonly shape: "default" | "1B";
  /** Of most of the weights: `Q4_1`. */
  readonly type: string;
  readonly isa: "auto" | "avx2";
}

type Bars = Readonly<Record<RowName, number>>;

/** The default model. */
const DEFAULT: Readonly<Record<string, Bars>> = {
  Q4_1: bars({ prompt: 6, one: 3, deep: 2, streams: 5, shared: 6, served: 5 }),
  Q4_0: bars({ prompt: 2.5, one: 2, deep: 1.7, streams: 3, shared: 4, served: 3 }),
  Q8_0: bars({ prompt: 3, one: 1.6, deep: 1.4, streams: 3.5, shared: 4, served: 3 }),
};
/** Of the default model's, for the larger shape in the same type. */
const LARGER = 0.8;
const K_QUANTS: Partial<Bars> = { "prompt-512": 2, one: 1.4, "streams-decode": 2, streams: 2 };
const AVX2 = 1.3;

function bars(
  of: Record<"prompt" | "one" | "deep" | "streams" | "shared" | "served", number>,
): Bars {
  return {
    "prompt-512": of.prompt,
    "prompt-2048": of.prompt,
    one: of.one,
    "one-deep": of.deep,
    "streams-decode": of.streams,
    streams: of.streams,
    "shared-decode": of.shared,
    shared: of.shared,
    served: of.served,
    "multi-turn": of.served,
  };
}

/** Undefined where nothing was promised. */
export function barOf(row: RowName, { shape, type, isa }: Held): number | undefined {
  if (isa === "avx2") return K_QUANTS[row] === undefined ? undefined : AVX2;
  const bar = DEFAULT[type]?.[row];
  if (shape === "default") return bar;
  if (type === "Q4_K" || type === "Q6_K") return K_QUANTS[row];
  return bar === undefined ? undefined : bar * LARGER;
}

/** The shape by its width, the type by what most of the weights are. */
export function heldOf({ config, tensors }: LoadedModel, isa: Held["isa"]): Held {
  const elements = new Map<string, number>();
  for (const { dtype, rows, cols } of tensors)
    elements.set(dtype, (elements.get(dtype) ?? 0) + rows * cols);
  const [[type] = ["none"]] = [...elements].toSorted(([, a], [, b]) => b - a);
  return { shape: config.hiddenSize === 576 ? "default" : "1B", type, isa };
}
