/** Responses that clients may ask for again, in memory: the oldest that have ended make place for new ones. */

import { KvEngineError } from "../../errors.ts";
import type { ChatTemplateMessage } from "../../tokenizer/chat-template.ts";
import type { InputItem } from "./input-items.ts";
import type { ModelResponse } from "./response.ts";

export interface StoredResponse {
  readonly response: ModelResponse;
  /** All items that the model was given, those of earlier responses included. */
  readonly input: readonly InputItem[];
  /** The same as messages, without instructions: what a later response goes on from. */
  readonly messages: readonly ChatTemplateMessage[];
  /** Whoever may see it: the name of the API key that asked for it. */
  readonly owner: string;
}

export interface StoreLimits {
  readonly maxResponses: number;
  /** Characters of all inputs and outputs together. */
  readonly maxCharacters: number;
}

export class ResponseStore {
  readonly #limits: StoreLimits;
  /** By id, the oldest first. */
  readonly #stored = new Map<string, { readonly entry: StoredResponse; characters: number }>();
  #characters = 0;

  constructor(limits: StoreLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#stored.size;
  }

  /** Throws `too_many_requests` where everything that is kept still runs. */
  checkRoom(): void {
    const { maxResponses } = this.#limits;
    if (this.#numRunning() < maxResponses) return;
    throw new KvEngineError(
      "too_many_requests",
      `${maxResponses} stored responses are being written; no more can be kept`,
      {
        subject: "store",
        hint: "send store: false, or start the server with a larger --max-stored-responses",
      },
    );
  }

  /** Keeps a response, or counts anew one that has ended since; drops the oldest that have ended beyond the limits. */
  put(entry: StoredResponse): void {
    const { id } = entry.response;
    const characters = JSON.stringify([entry.response, entry.input]).length;
    this.#characters += characters - (this.#stored.get(id)?.characters ?? 0);
    this.#stored.set(id, { entry, characters });
    for (const [oldest, { entry: old }] of this.#stored) {
      if (!this.#isTooMuch()) return;
      if (old.response.status !== "in_progress") this.delete(oldest);
    }
  }

  /** `undefined` also where it is somebody else's. */
  get(id: string, owner: string): StoredResponse | undefined {
    const entry = this.#stored.get(id)?.entry;
    return entry?.owner === owner ? entry : undefined;
  }

  delete(id: string): void {
    this.#characters -= this.#stored.get(id)?.characters ?? 0;
    this.#stored.delete(id);
  }

  #isTooMuch(): boolean {
    const { maxResponses, maxCharacters } = this.#limits;
    return this.#stored.size > maxResponses || this.#characters > maxCharacters;
  }

  #numRunning(): number {
    let running = 0;
    for (const { entry } of this.#stored.values())
      if (entry.response.status === "in_progress") running++;
    return running;
  }
}
