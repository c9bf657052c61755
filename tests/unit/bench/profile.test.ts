import { describe, expect, test } from "bun:test";
import { profileOf, profileSection } from "../../../cli/bench/engine/profile.ts";
import type { OpProfile } from "../../../engine/runner/profile.ts";

const NOTHING = { calls: 4, seconds: 0, waited: 0, bytes: 0, int8: 0, fp32: 0 };

function op(label: string, changes: Partial<OpProfile> = {}): OpProfile {
  return { ...NOTHING, labels: label.split("+"), ops: ["linear"], ...changes };
}

const PEAKS = { read: 1000, int8: 100, fp32: 10 };

describe("a profile", () => {
  test("counts ops of one place in all layers together, by the step", () => {
    const profile = profileOf(
      {
        steps: 4,
        seconds: 20,
        gaps: 2,
        ops: [
          op("token_embd"),
          op("blk.0.attn_qkv", { seconds: 4, waited: 1, bytes: 40 }),
          op("blk.1.attn_qkv", { seconds: 8, waited: 3, bytes: 40 }),
          op("blk.0.ffn_gate_up+blk.0.ffn_act", { seconds: 4 }),
          op("blk.12.ffn_gate_up+blk.12.ffn_act"),
        ],
      },
      undefined,
    );
    expect(profile).toMatchObject({ steps: 4, seconds: 5, outsideOps: 1, between: 0.5 });
    expect(profile.ops.map(({ label, calls }) => [label, calls])).toEqual([
      ["token_embd", 1],
      ["blk.*.attn_qkv", 2],
      ["blk.*.ffn_gate_up + blk.*.ffn_act", 2],
    ]);
    expect(profile.ops[1]).toEqual({
      ...{ label: "blk.*.attn_qkv", calls: 2, seconds: 3, waited: 1, bytes: 20, operations: 0 },
    });
  });

  test("holds each op against what bounds it", () => {
    const { ops } = profileOf(
      {
        steps: 1,
        seconds: 10,
        gaps: 0,
        ops: [
          op("reads", { seconds: 2, bytes: 1000, int8: 10 }),
          op("multiplies", { seconds: 2, bytes: 10, int8: 50, fp32: 1 }),
          op("attends", { seconds: 4, bytes: 10, fp32: 20 }),
          op("does nothing of the kind", { seconds: 2 }),
        ],
      },
      PEAKS,
    );
    expect(ops.map(({ limit }) => limit)).toEqual([
      { bound: "read", share: 0.5 },
      { bound: "int8", share: 0.3 },
      { bound: "fp32", share: 0.5 },
      undefined,
    ]);
    expect(ops.map(({ operations }) => operations)).toEqual([20, 102, 40, 0]);
  });

  test("of no steps has no rates that are not numbers", () => {
    const profile = profileOf({ steps: 0, seconds: 0, gaps: 0, ops: [] }, PEAKS);
    expect(profile).toEqual({ steps: 0, seconds: 0, ops: [], outsideOps: 0, between: 0 });
  });

  test("is a table whose shares of the time add up, with what is no op", () => {
    const { title, rows } = profileSection(
      "tg128",
      profileOf(
        {
          ...{ steps: 2, seconds: 0.008, gaps: 0.002 },
          ops: [op("head", { seconds: 0.006, waited: 0.001, bytes: 6e6, int8: 3e6 })],
        },
        { read: 2e9, int8: 1e12, fp32: 1e12 },
      ),
    );
    expect(title).toBe("Profile of tg128: 2 steps");
    expect(rows).toEqual([
      ["head", "2", "3.000", "60.0", "0.500", "1.0", "1.0", "50 % of read"],
      ["in a step, outside of ops", "", "1.000", "20.0", "", "", "", ""],
      ["between steps", "", "1.000", "20.0", "", "", "", ""],
      ["all", "", "5.000", "100.0", "", "", "", ""],
    ]);
  });
});
