/**
 * Which layers share a page. A page holds one block of one group, all pages have one size, and a block leaves a window for all
 * layers of its group at once; so a group has layers of one kind, and all groups have about the same number of them.
 */

import type { ModelConfig } from "./model-config.ts";
import type { KvGroup } from "./tape.ts";

/** A layer's place in the KV pages. */
export interface KvPlace {
  readonly group: number;
  /** Counted inside the group. */
  readonly layer: number;
  /** Positions that it sees, its own included; 0 = all. */
  readonly window: number;
}

export interface KvGroups {
  readonly groups: KvGroup[];
  /** One for each layer of the model. */
  readonly places: readonly KvPlace[];
}

/** Share of the layers that pages may leave empty room for. */
const MAX_WASTE = 0.1;

export function planKvGroups({
  layerKinds,
  slidingWindow,
  numKvHeads,
  headDim,
}: Pick<ModelConfig, "layerKinds" | "slidingWindow" | "numKvHeads" | "headDim">): KvGroups {
  const kinds = [...new Set(layerKinds)];
  const layersOf = kinds.map((kind) => layerKinds.flatMap((each, i) => (each === kind ? [i] : [])));
  const perGroup = layersPerGroup(layersOf.map((layers) => layers.length));
  const groups: KvGroup[] = [];
  const places: KvPlace[] = [];
  for (const [i, kind] of kinds.entries()) {
    const layers = layersOf[i]!;
    const window = kind === "window" ? slidingWindow : 0;
    for (let first = 0; first < layers.length; first += perGroup) {
      const members = layers.slice(first, first + perGroup);
      const group = groups.push({ layers: members.length, numKvHeads, headDim, kind, window }) - 1;
      for (const [layer, of] of members.entries()) places[of] = { group, layer, window };
    }
  }
  return { groups, places };
}

/** The most layers that pages can hold without wasting more than their share. Fewer and larger pages cost less to handle. */
function layersPerGroup(counts: readonly number[]): number {
  const numLayers = counts.reduce((sum, count) => sum + count, 0);
  let perGroup = Math.max(...counts);
  while (wasted(counts, perGroup) > MAX_WASTE * numLayers) perGroup--;
  return perGroup;
}

function wasted(counts: readonly number[], perGroup: number): number {
  return counts.reduce((sum, count) => sum + Math.ceil(count / perGroup) * perGroup - count, 0);
}
