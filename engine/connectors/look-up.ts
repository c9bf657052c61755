/** What `findBlocks` sees of one look-up: checks what a connector marks, and lets it mark while its hook runs only. */

import { RefusedError, type WantedBlocks } from "../../connectors/connector.ts";
import { TIER_NAME } from "../../connectors/answers.ts";
import { showValue } from "../../connectors/safe-text.ts";

/** Where the marks of one look-up go: the scheduler's side. Connectors are named by their places. */
export interface BlockMarks {
  /** Blocks from the prompt's start that may be brought. */
  readonly numBlocks: number;
  /** Leading blocks that the device has in every group. */
  readonly numDeviceBlocks: number;
  readonly numGroups: number;
  /** Tokens of a block. */
  readonly blockSize: number;
  /** Whether it is missing, nobody is bringing it, and no connector has marked it. `block` and `group` are in range. */
  isWanted(block: number, group: number): boolean;
  /** Called for wanted blocks only. */
  mark(connector: number, block: number, group: number, tier: string): void;
  /** Takes back what the connector has marked in this look-up: it was disabled while it did. */
  unmark(connector: number): void;
}

/** Names of tiers that one connector may use: they are labels of metrics. */
const MAX_TIERS = 8;

export class LookUp implements WantedBlocks {
  readonly #name: string;
  readonly #connector: number;
  readonly #tiers: Set<string>;
  #marks: BlockMarks | undefined;
  /** The first thing that was wrong since `open`. */
  #wrong: string | undefined;

  constructor(name: string, connector: number) {
    this.#name = name;
    this.#connector = connector;
    this.#tiers = new Set([name]);
  }

  open(marks: BlockMarks): void {
    this.#marks = marks;
  }

  /** What was wrong with the marks since `open`, if anything was. */
  close(): string | undefined {
    const wrong = this.#wrong;
    this.#marks = undefined;
    this.#wrong = undefined;
    return wrong;
  }

  get numBlocks(): number {
    return this.#open().numBlocks;
  }

  get numDeviceBlocks(): number {
    return this.#open().numDeviceBlocks;
  }

  get numGroups(): number {
    return this.#open().numGroups;
  }

  get blockSize(): number {
    return this.#open().blockSize;
  }

  isWanted(block: number, group: number): boolean {
    const marks = this.#open();
    return isPlace(marks, block, group) && marks.isWanted(block, group);
  }

  mark(block: number, group: number, tier: string = this.#name): void {
    const marks = this.#open();
    if (!isPlace(marks, block, group)) {
      this.#wrong ??= `marked block ${showValue(block)} of group ${showValue(group)}; there are ${marks.numBlocks} blocks in ${marks.numGroups} groups`;
      return;
    }
    if (marks.isWanted(block, group)) marks.mark(this.#connector, block, group, this.#known(tier));
  }

  #open(): BlockMarks {
    if (this.#marks === undefined)
      throw new RefusedError("closed", "a look-up ends when findBlocks returns");
    return this.#marks;
  }

  /** The tier, or the connector's own name where it is none that a metric may be labelled with. */
  #known(tier: unknown): string {
    if (typeof tier === "string" && this.#tiers.has(tier)) return tier;
    if (typeof tier !== "string" || !TIER_NAME.test(tier)) {
      this.#wrong ??= `marked for the tier ${showValue(tier)}; allowed are up to 32 of a-z, 0-9, ., _ and -`;
      return this.#name;
    }
    if (this.#tiers.size > MAX_TIERS) {
      this.#wrong ??= `marked for more than ${MAX_TIERS} tiers`;
      return this.#name;
    }
    this.#tiers.add(tier);
    return tier;
  }
}

function isPlace({ numBlocks, numGroups }: BlockMarks, block: unknown, group: unknown): boolean {
  return isBelow(block, numBlocks) && isBelow(group, numGroups);
}

function isBelow(value: unknown, end: number): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < end;
}
