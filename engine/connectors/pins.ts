/** Pins as clients ask for them: of a prompt that is remembered, as far as its blocks are full. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { HASH_WORDS } from "../cache/block-hash.ts";
import { blockKey } from "../cache/block-key.ts";
import type { DiskStore } from "../cache/disk-store.ts";
import { KvEngineError } from "../errors.ts";
import { sha256 } from "./sha256.ts";
import type { DiskPins } from "./disk-pins.ts";
import type { Pin, Retained } from "./retained.ts";
import type { PinAnswer, PinFacts, PinQuery } from "./pin-query.ts";

/** Requests that are remembered. */
export interface KnownPrompts {
  /** `hashes`: 8 words for each full block of the prompt. */
  get(id: string): { readonly hashes: Int32Array; readonly numPromptTokens: number } | undefined;
}

/** Where pinned content is. */
export interface PinPlaces {
  readonly isInHost?: (key: BlockKey) => boolean;
  readonly disk?: Pick<DiskStore, "has">;
  /** On a disk pins hold across restarts. */
  readonly diskPins?: Pick<DiskPins, "add" | "remove">;
}

export class Pins {
  readonly #retained: Retained;
  readonly #prompts: KnownPrompts | undefined;
  readonly #blockSize: number;
  readonly #numGroups: number;
  readonly #now: () => number;
  readonly #places: PinPlaces;

  /** Without `prompts` nothing can be pinned. `now`: milliseconds, monotonic. */
  constructor(
    retained: Retained,
    prompts: KnownPrompts | undefined,
    { blockSize, groups }: { readonly blockSize: number; readonly groups: readonly unknown[] },
    now: () => number,
    places: PinPlaces = {},
  ) {
    this.#places = places;
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
        this.#places.diskPins?.remove(query.pin, query.owner);
        if (pin !== undefined) return [pin];
        throw new KvEngineError("not_found", "there is no such pin, or it has ended", {
          subject: "id",
        });
      }
      case "add": {
        const pin = this.#make(query);
        this.#retained.add(pin);
        this.#places.diskPins?.add(pin);
        return [pin];
      }
    }
  }

  #make({ pin, owner, request, tokens, ttlMs, renews }: PinQuery & { readonly kind: "add" }): Pin {
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
    const numKept = numBlocks * this.#blockSize;
    if (renews !== true) return { id: pin, owner, keys, numTokens: numKept, endsAt };
    const content = JSON.stringify([owner, keys.at(-1)]);
    const id = `pin-${sha256(content).slice(0, 32)}`;
    const before = this.#retained.get(id)?.endsAt ?? 0;
    return { id, owner, keys, numTokens: numKept, endsAt: Math.max(before, endsAt) };
  }

  #factsOf({ id, numTokens, keys, endsAt }: Pin): PinFacts {
    const { isInHost = (): boolean => false, disk } = this.#places;
    const inHost = keys.filter((key) => isInHost(key)).length;
    const onDisk = disk?.has(keys).filter((has) => has).length ?? 0;
    const msLeft = Math.max(0, endsAt - this.#now());
    return { id, numTokens, numPages: keys.length, inHost, onDisk, msLeft };
  }
}
