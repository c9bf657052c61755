/** Where the time of a test's steps goes: ops by their place in a layer, and what is no op. Pure: knows no engine. */

import type { OpProfile, StepsProfile } from "../../../engine/runner/profile.ts";
import type { Section } from "../report/section.ts";
import type { Bound, Peaks } from "./work.ts";

/** Ops of one place in all layers. Seconds, bytes and operations are of one step in the mean. */
export interface ProfiledOp {
  /** `blk.*.attn_qkv`; of ops that are done as one, all of them. */
  readonly label: string;
  readonly calls: number;
  readonly seconds: number;
  /** Of these, seconds in which the calling thread waited for the others. */
  readonly waited: number;
  /** Of weights and KV. */
  readonly bytes: number;
  /** A multiply-accumulate is two. */
  readonly operations: number;
  /** Of the least time that the machine allows: 1 = at the limit. Absent where that is nothing, or was not measured. */
  readonly limit?: { readonly bound: Bound; readonly share: number };
}

export interface TestProfile {
  readonly steps: number;
  /** From the start of a step to its end. */
  readonly seconds: number;
  readonly ops: readonly ProfiledOp[];
  /** Of `seconds`, those in no op: reading the step, seats, results. */
  readonly outsideOps: number;
  /** Between the end of a step and the start of the next, which was queued. */
  readonly between: number;
}

/** Ops that differ by their layer only are one. `peaks`: what the machine gave just before. */
export function profileOf(profile: StepsProfile, peaks: Peaks | undefined): TestProfile {
  const byLabel = new Map<string, OpProfile[]>();
  for (const op of profile.ops) {
    const label = op.labels.map((one) => one.replaceAll(/(?<=^|\.)\d+(?=\.|$)/g, "*")).join(" + ");
    byLabel.set(label, [...(byLabel.get(label) ?? []), op]);
  }
  const steps = Math.max(1, profile.steps);
  const inOps = profile.ops.reduce((sum, { seconds }) => sum + seconds, 0);
  return {
    steps: profile.steps,
    seconds: profile.seconds / steps,
    ops: [...byLabel].map(([label, ops]) => profiledOp(label, ops, steps, peaks)),
    outsideOps: (profile.seconds - inOps) / steps,
    between: profile.gaps / steps,
  };
}

function profiledOp(
  label: string,
  ops: readonly OpProfile[],
  steps: number,
  peaks: Peaks | undefined,
): ProfiledOp {
  const each = (of: (op: OpProfile) => number): number =>
    ops.reduce((sum, op) => sum + of(op), 0) / steps;
  const [seconds, bytes] = [each((op) => op.seconds), each((op) => op.bytes)];
  const [int8, fp32] = [each((op) => op.int8), each((op) => op.fp32)];
  const limit = peaks === undefined ? undefined : limitOf({ bytes, int8, fp32 }, seconds, peaks);
  return {
    label,
    calls: each((op) => op.calls),
    seconds,
    waited: each((op) => op.waited),
    bytes,
    operations: 2 * (int8 + fp32),
    ...(limit === undefined ? {} : { limit }),
  };
}

function limitOf(
  work: { readonly bytes: number; readonly int8: number; readonly fp32: number },
  seconds: number,
  peaks: Peaks,
): ProfiledOp["limit"] {
  const reading = work.bytes / peaks.read;
  const [int8, fp32] = [work.int8 / peaks.int8, work.fp32 / peaks.fp32];
  const least = Math.max(reading, int8 + fp32);
  if (least === 0) return undefined;
  const bound = reading >= int8 + fp32 ? "read" : int8 >= fp32 ? "int8" : "fp32";
  return { bound, share: least / seconds };
}

const HEADS: readonly string[] = [
  "op",
  "calls a step",
  "ms a step",
  "% of time",
  "of it waiting, ms",
  "GB/s",
  "Gop/s",
  "of the limit",
];

/** A table of one test. */
export function profileSection(test: string, profile: TestProfile): Section {
  const total = profile.seconds + profile.between;
  const ms = (seconds: number): string => (1e3 * seconds).toFixed(3);
  const row = (label: string, calls: string, seconds: number, ...rest: string[]): string[] => {
    const cells = [label, calls, ms(seconds), ((100 * seconds) / total).toFixed(1), ...rest];
    return HEADS.map((_, column) => cells[column] ?? "");
  };
  const rate = (amount: number, seconds: number): string =>
    amount === 0 ? "" : (amount / seconds / 1e9).toFixed(1);
  return {
    title: `Profile of ${test}: ${profile.steps} steps`,
    columns: HEADS,
    rows: [
      ...profile.ops.map((op) =>
        row(
          op.label,
          String(Math.round(op.calls)),
          op.seconds,
          ms(op.waited),
          rate(op.bytes, op.seconds),
          rate(op.operations, op.seconds),
          op.limit === undefined
            ? ""
            : `${(100 * op.limit.share).toFixed(0)} % of ${op.limit.bound}`,
        ),
      ),
      row("in a step, outside of ops", "", profile.outsideOps),
      row("between steps", "", profile.between),
      row("all", "", total),
    ],
    texts: ["op", "of the limit"],
  };
}
