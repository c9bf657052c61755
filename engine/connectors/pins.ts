/** Pins as clients ask for them: of a prompt that is remembered, as far as its blocks are full. */

import { HASH_WORDS } from "../cache/block-hash.ts";
import { blockKey } from "../cache/block-key.ts";
import { KvEngineError } from "../errors.ts";
import type { Pin, Retained } from "./retained.ts";
import type { PinAnswer, PinFacts, PinQuery } from "./pin-query.ts";

/** Requests that are remembered. */
export interface KnownPrompts {
  /** `hashes`: 8 words for each full block of the prompt. */
  get(id: string): { readonly hashes: Int32Array; readonly numPromptTokens: number } | undefined;
}

export class Pins {
  readonly #retained: Retained;
  readonly #prompts: KnownPrompts | undefined;
  readonly #blockSize: number;
  readonly #numGroups: number;
  readonly #now: () => number;

  /** Without `prompts` nothing can be pinned. `now`: milliseconds, monotonic. */
  constructor(
    retained: Retained,
    prompts: KnownPrompts | undefined,
    { blockSize, groups }: { readonly blockSize: number; readonly groups: readonly unknown[] },
    now: () => number,
  ) {
    this.#retained = retained;
    this.#prompts = prompts;
    this.#blockSize = blockSize;
    this.#numGroups = groups.length;
    this.#now = now;
  }

  /** Throws what is wrong with the query. */
  answer(query: PinQuery): PinAnswer {
    return {
      pins: this.#obey(query).map((pin) => this.#factsOf(pin)),
      budget: this.#retained.budget,
      used: this.#retained.size,
    };
  }

  #obey(query: PinQuery): readonly Pin[] {
    switch (query.kind) {
      case "list":
        return this.#retained.list(query.owner);
      case "remove": {
        const pin = this.#retained.remove(query.pin, query.owner);
        if (pin !== undefined) return [pin];
        throw new KvEngineError("not_found", "there is no such pin, or it has ended", {
          subject: "id",
        });
      }
      case "add": {
        const pin = this.#make(query);
        this.#retained.add(pin);
        return [pin];
      }
    }
  }

  #make({ pin, owner, request, tokens, ttlMs }: PinQuery & { readonly kind: "add" }): Pin {
    const prompt = this.#prompts?.get(request);
    if (prompt === undefined) {
      throw new KvEngineError("not_found", "the request is not remembered any more", {
        subject: "id",
        hint: "send it again, and pin that one",
      });
    }
    const numTokens = Math.min(tokens ?? Infinity, prompt.numPromptTokens);
    const numBlocks = Math.floor(numTokens / this.#blockSize);
    if (numBlocks === 0) {
      throw new KvEngineError(
        "invalid_request",
        `${numTokens} tokens are less than a block of ${this.#blockSize}, and less than a block is not kept`,
        { subject: tokens === undefined ? "id" : "tokens" },
      );
    }
    const keys: string[] = [];
    for (let block = 0; block < numBlocks; block++)
      for (let group = 0; group < this.#numGroups; group++)
        keys.push(blockKey(prompt.hashes, block * HASH_WORDS, group));
    const endsAt = this.#now() + ttlMs;
    return { id: pin, owner, keys, numTokens: numBlocks * this.#blockSize, endsAt };
  }

  #factsOf({ id, numTokens, keys, endsAt }: Pin): PinFacts {
    return { id, numTokens, numPages: keys.length, msLeft: Math.max(0, endsAt - this.#now()) };
  }
}
