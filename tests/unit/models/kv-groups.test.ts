import { describe, expect, test } from "bun:test";
import { planKvGroups } from "../../../engine/models/kv-groups.ts";
import type { LayerKind } from "../../../engine/models/layer-kinds.ts";

/** Of a model whose layers are named by their kinds' first letters. */
function plan(layers: string): ReturnType<typeof planKvGroups> {
  const layerKinds = Array.from(layers, (letter): LayerKind =>
    letter === "w" ? "window" : "full",
  );
  return planKvGroups({ layerKinds, slidingWindow: 64, numKvHeads: 2, headDim: 16 });
}

function sizes(layers: string): string {
  return plan(layers)
    .groups.map(({ kind, layers: count }) => `${kind.charAt(0)}${count}`)
    .join(" ");
}

describe("layers per group are the most that waste at most a tenth of the layers:", () => {
  test.each([
    ["f".repeat(30), "f30"],
    ["w".repeat(7), "w7"],
    ["wwwwwf".repeat(3), "w3 w3 w3 w3 w3 f3"],
    ["wf".repeat(6), "w6 f6"],
    ["wwf".repeat(2), "w2 w2 f2"],
    [`${"w".repeat(9)}f`, `${"w1 ".repeat(9)}f1`],
    [`${"w".repeat(20)}f`, `${"w2 ".repeat(10)}f1`],
    [`f${"w".repeat(29)}`, "f1 w3 w3 w3 w3 w3 w3 w3 w3 w3 w2"],
    [`${"w".repeat(11)}${"f".repeat(12)}`, "w11 f12"],
  ])("%s", (layers, expected) => {
    const total = layers.length;
    const most = Math.max(...plan(layers).groups.map((group) => group.layers));
    expect(most * plan(layers).groups.length - total).toBeLessThanOrEqual(total / 10);
    expect(sizes(layers)).toBe(expected);
  });
});

test("every layer has a place of its own in a group of its kind", () => {
  for (const layers of ["wwfwwf", "fwwwwwwwwfff", "f", "wwwwwfwwwwwfwwwwwfw"]) {
    const { groups, places } = plan(layers);
    expect(places).toHaveLength(layers.length);
    expect(new Set(places.map(({ group, layer }) => `${group}/${layer}`)).size).toBe(layers.length);
    for (const [i, { group, layer, window }] of places.entries()) {
      expect(layer).toBeLessThan(groups[group]!.layers);
      expect(groups[group]).toMatchObject({
        kind: layers[i] === "w" ? "window" : "full",
        window,
        numKvHeads: 2,
        headDim: 16,
      });
      expect(window).toBe(layers[i] === "w" ? 64 : 0);
    }
    expect(groups.reduce((sum, group) => sum + group.layers, 0)).toBe(layers.length);
  }
});
