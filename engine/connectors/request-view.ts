/** A live request and its block keys as connectors see them. */

import type { BlockHashes, BlockKey, RequestView } from "../../connectors/connector.ts";
import { blockKey } from "../cache/block-key.ts";
import type { Sequence } from "../scheduler/sequence.ts";

export class SequenceView implements RequestView, BlockHashes {
  readonly #sequence: Sequence;
  readonly #numGroups: number;
  /** `block * numGroups + group`, as far as asked for. */
  readonly #keys: BlockKey[] = [];

  constructor(sequence: Sequence, numGroups: number) {
    this.#sequence = sequence;
    this.#numGroups = numGroups;
    Object.freeze(this);
  }

  get id(): string {
    return this.#sequence.id;
  }

  get numPromptTokens(): number {
    return this.#sequence.numPromptTokens;
  }

  get numTokens(): number {
    return this.#sequence.numTokens;
  }

  get priority(): number {
    return this.#sequence.priority;
  }

  get arrivalTime(): number {
    return this.#sequence.request.arrivalTime;
  }

  transferParams(): Readonly<Record<string, unknown>> | undefined {
    return structuredClone(this.#sequence.request.transferParams);
  }

  tokenIds(): Int32Array {
    return this.#sequence.tokenIds.slice(0, this.#sequence.numTokens);
  }

  get length(): number {
    return this.#sequence.blocks.numHashes;
  }

  keyOf(block: number, group: number): BlockKey {
    const numGroups = this.#numGroups;
    const isThere = Number.isInteger(block) && block >= 0 && block < this.length;
    if (!isThere || !Number.isInteger(group) || group < 0 || group >= numGroups)
      throw new RangeError(
        `block ${block} of group ${group}: there are ${this.length} and ${numGroups}`,
      );
    const index = block * numGroups + group;
    return (this.#keys[index] ??= blockKey(this.#sequence.blocks.hashes, block * 8, group));
  }
}

/** The views of live sequences, one each. */
export class SequenceViews {
  readonly #views = new WeakMap<Sequence, SequenceView>();
  readonly #numGroups: number;

  constructor(numGroups: number) {
    this.#numGroups = numGroups;
  }

  of(sequence: Sequence): SequenceView {
    let view = this.#views.get(sequence);
    if (view === undefined) {
      view = new SequenceView(sequence, this.#numGroups);
      this.#views.set(sequence, view);
    }
    return view;
  }
}
