/** Which layers look back on the last tokens only, out of GGUF metadata. */

import type { Metadata } from "./metadata.ts";

/** `full`: attention to all tokens before; `window`: to the last `slidingWindow` ones, a token's own included. */
export type LayerKind = "full" | "window";

export interface LayerKinds {
  /** One for each layer. */
  readonly layerKinds: readonly LayerKind[];
  /** 0 where no layer has a window. */
  readonly slidingWindow: number;
}

/** `key` completes a key's name with the architecture. A window as long as the context is none. */
export function readLayerKinds(
  metadata: Metadata,
  key: (name: string) => string,
  numLayers: number,
  contextLength: number,
): LayerKinds {
  const window =
    metadata.optionalInteger(key("attention.sliding_window"), { min: 0, max: 1 << 30 }) ?? 0;
  const windowed = readPattern(metadata, key("attention.sliding_window_pattern"), numLayers);
  const used = window > 0 && window < contextLength && windowed.includes(true);
  return {
    layerKinds: windowed.map((each) => (used && each ? "window" : "full")),
    slidingWindow: used ? window : 0,
  };
}

/** Whether each layer has the window. As llama.cpp reads a number n: all but every n-th layer; 0: all. */
function readPattern(metadata: Metadata, key: string, numLayers: number): readonly boolean[] {
  const list = metadata.optionalBooleans(key, numLayers);
  if (list !== undefined) return list;
  const every = metadata.optionalInteger(key, { min: 0, max: 1024 }) ?? 0;
  return Array.from({ length: numLayers }, (_, layer) => every === 0 || (layer + 1) % every !== 0);
}
