/**
 * What the native `witness` backend (`kernels/core/src/backend/witness.rs`) must answer, defined from the request alone, without
 * blocks, batches or steps.
 */

import type { SamplingParams } from "../../engine/request.ts";
import type { KvGroup } from "../../engine/runner/native.ts";

export interface WitnessDefinition {
  readonly vocabSize: number;
  readonly groups: readonly Readonly<Pick<KvGroup, "kind" | "window">>[];
}

/** What a picked token follows from beside all tokens before it. */
export type WitnessSampling = Pick<
  SamplingParams,
  "temperature" | "seed" | "choice" | "maxTokens" | "stopTokenIds"
>;

/** 64 bits in halves, into which values are mixed. */
class Chain {
  low = 0x243f6a88;
  high = 0x85a308d3 | 0;

  mix(value: number): this {
    let low = Math.imul(this.low ^ value, 0x9e3779b1);
    low ^= low >>> 15;
    let high = Math.imul(this.high ^ low, 0x85ebca6b);
    high ^= high >>> 13;
    low = Math.imul(low + high, 0xc2b2ae35);
    this.low = low ^ (low >>> 16);
    this.high = high;
    return this;
  }

  mixChain({ low, high }: Chain): this {
    return this.mix(low).mix(high);
  }

  copy(): Chain {
    const copy = new Chain();
    copy.low = this.low;
    copy.high = this.high;
    return copy;
  }
}

/** A group's KV of one sequence: takes tokens in order, and mixes into a chain what the last position sees. */
interface GroupKv {
  add(token: number): void;
  see(into: Chain): void;
}

class FullKv implements GroupKv {
  readonly #slot: Chain;
  readonly #seen = new Chain();

  constructor(group: number) {
    this.#slot = new Chain().mix(group);
  }

  add(token: number): void {
    this.#seen.mixChain(this.#slot.mix(token));
  }

  see(into: Chain): void {
    into.mixChain(this.#seen);
  }
}

class WindowKv implements GroupKv {
  readonly #group: number;
  readonly #window: number;
  readonly #slots: Chain[] = [];
  #position = 0;

  constructor(group: number, window: number) {
    this.#group = group;
    this.#window = window;
  }

  add(token: number): void {
    const position = this.#position++;
    const before = this.#slots.at(-1) ?? new Chain().mix(this.#group);
    const slot =
      this.#window === 1
        ? new Chain().mix(this.#group).mix(position).mix(token)
        : before.copy().mix(token);
    this.#slots.push(slot);
    if (this.#slots.length > this.#window) this.#slots.shift();
  }

  see(into: Chain): void {
    const seen = new Chain();
    for (const slot of this.#slots) seen.mixChain(slot);
    into.mixChain(seen);
  }
}

class StateKv implements GroupKv {
  readonly #state: Chain;
  #count = 0;

  constructor(group: number) {
    this.#state = new Chain().mix(group);
  }

  add(token: number): void {
    this.#state.mix(this.#count++).mix(token);
  }

  see(into: Chain): void {
    into.mixChain(this.#state).mix(this.#count);
  }
}

class Sight {
  readonly #groups: GroupKv[];

  constructor({ groups }: WitnessDefinition) {
    this.#groups = groups.map(({ kind, window }, group) => {
      switch (kind) {
        case "full":
          return new FullKv(group);
        case "window":
          return new WindowKv(group, window);
        case "state":
          return new StateKv(group);
      }
    });
  }

  add(token: number): void {
    for (const group of this.#groups) group.add(token);
  }

  /** All that the last position sees. */
  get seen(): Chain {
    const seen = new Chain();
    for (const group of this.#groups) group.see(seen);
    return seen;
  }
}

/** A request's tokens, the one that ends it included. */
export function witnessTokens(
  prompt: Int32Array,
  sampling: WitnessSampling,
  definition: WitnessDefinition,
): number[] {
  return witnessPicks(prompt, sampling, definition).map(({ token }) => token);
}

/** As `witnessTokens`, with log-probabilities. */
export function witnessPicks(
  prompt: Int32Array,
  sampling: WitnessSampling,
  definition: WitnessDefinition,
): { readonly token: number; readonly logprob: number }[] {
  const { temperature, seed, choice, maxTokens, stopTokenIds } = sampling;
  const sight = new Sight(definition);
  for (const token of prompt) sight.add(token);
  const picks: { token: number; logprob: number }[] = [];
  while (picks.length < maxTokens) {
    const { seen } = sight;
    const chain = seen.copy();
    if (temperature > 0) chain.mix(seed[0]).mix(seed[1]).mix(choice).mix(picks.length);
    const token = (chain.low >>> 0) % definition.vocabSize;
    picks.push({ token, logprob: logprobOf(seen, token) });
    if (stopTokenIds.includes(token)) break;
    sight.add(token);
  }
  return picks;
}

/** Log-probabilities of a prompt's tokens 1 and up. */
export function witnessScores(prompt: Int32Array, definition: WitnessDefinition): number[] {
  const sight = new Sight(definition);
  return Array.from(prompt.subarray(1), (token, before) => {
    sight.add(prompt[before]!);
    return logprobOf(sight.seen, token);
  });
}

/** 24 bits: exact in a 32-bit float. */
function logprobOf(seen: Chain, token: number): number {
  return -(seen.copy().mix(token).low >>> 8) / 2 ** 24;
}
