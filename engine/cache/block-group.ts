/** What a group of layers needs of the blocks before a position, by the kind of its attention. */

import { KvEngineError } from "../errors.ts";

export interface GroupSpec {
  /**
   * `full` reads all earlier positions, `window` the last `window` ones, `state` only the snapshot of the block before (or of
   * its own block, once that has begun).
   */
  readonly kind: "full" | "window" | "state";
  /** Positions that a token of a window group sees, itself included; 0 in all other groups. */
  readonly window: number;
}

/** Throws `bad_config` unless the groups are ones that can be served. */
export function checkGroups(groups: readonly GroupSpec[]): void {
  if (groups.length === 0)
    throw new KvEngineError("bad_config", "a KV cache needs at least one group", {
      subject: "groups",
    });
  for (const { kind, window } of groups) {
    if (kind === "window" ? Number.isInteger(window) && window >= 1 : window === 0) continue;
    const allowed = kind === "window" ? "1 and more" : "0";
    throw new KvEngineError(
      "bad_config",
      `the window of a ${kind} group is ${window}; allowed is ${allowed}`,
      { subject: "groups" },
    );
  }
}

/** The first block that computing position `position` and later ones needs; those before it may be null. */
export function firstNeededBlock(spec: GroupSpec, blockSize: number, position: number): number {
  switch (spec.kind) {
    case "full":
      return 0;
    case "window":
      return Math.floor(Math.max(0, position - spec.window + 1) / blockSize);
    case "state":
      return Math.floor(Math.max(0, position - 1) / blockSize);
  }
}

/**
 * Blocks in a row that must be found before a block boundary, so that computing can go on there; fewer do when they begin at
 * block 0. At least one, so that no prefix counts as found without a block that says so.
 */
export function runBeforeBoundary(spec: GroupSpec, blockSize: number): number {
  switch (spec.kind) {
    case "full":
      return Infinity;
    case "window":
      return Math.max(1, Math.ceil((spec.window - 1) / blockSize));
    case "state":
      return 1;
  }
}

/**
 * Blocks that a group of a sequence of `numTokens` holds at most at a time, when at most `maxInFlightTokens` of it are not
 * committed. What is before the window of the first position that is not committed has been given back.
 */
export function peakOfGroup(
  spec: GroupSpec,
  blockSize: number,
  numTokens: number,
  maxInFlightTokens: number,
): number {
  const all = Math.ceil(numTokens / blockSize);
  switch (spec.kind) {
    case "full":
      return all;
    case "window":
      return Math.min(all, Math.ceil((spec.window - 1 + maxInFlightTokens) / blockSize) + 1);
    case "state":
      return Math.min(all, Math.ceil(maxInFlightTokens / blockSize) + 2);
  }
}

/** The same over all groups. Admission and the planning of memory both ask this function, so they cannot differ. */
export function peakBlocks(
  groups: readonly GroupSpec[],
  blockSize: number,
  numTokens: number,
  maxInFlightTokens: number,
): number {
  let sum = 0;
  for (const spec of groups) sum += peakOfGroup(spec, blockSize, numTokens, maxInFlightTokens);
  return sum;
}
