/** The last HTTP requests, by ids that nobody can guess: what their prompts were made of, and what the engine calls them. */

import { randomUUID } from "node:crypto";
import type { Rendering } from "./rendering.ts";

/** Sequences behind the requests that are kept: the engine remembers no more. */
const MAX_SEQUENCES = 256;
/** Characters of conversations that are kept, together: of older requests the rendering is forgotten. */
const MAX_CHARACTERS = 16 * 2 ** 20;

export interface Noted {
  /** Who may ask, and be compared with: those with the same API key. */
  readonly party: string;
  /** The engine's ids of all choices, those of the first prompt first. */
  readonly engineIds: readonly string[];
  /** Choices of each prompt. */
  readonly n: number;
  /** Undefined for a prompt that is a text or token ids. */
  readonly rendering: Rendering | undefined;
}

interface Entry {
  readonly noted: Noted;
  readonly numCharacters: number;
}

export class ExplainBook {
  readonly #maxSequences: number;
  readonly #maxCharacters: number;
  /** In the order of arrival. */
  readonly #entries = new Map<string, Entry>();
  readonly #byEngineId = new Map<string, string>();
  #numSequences = 0;
  #numCharacters = 0;

  constructor(maxSequences: number = MAX_SEQUENCES, maxCharacters: number = MAX_CHARACTERS) {
    this.#maxSequences = maxSequences;
    this.#maxCharacters = maxCharacters;
  }

  /** Answers the id to ask by: `drawnId`, an id of the server's own that no other request has, where there is one. */
  add(noted: Noted, drawnId: string | undefined): string {
    const id = drawnId !== undefined && !this.#entries.has(drawnId) ? drawnId : randomUUID();
    const numCharacters = charactersOf(noted.rendering);
    this.#entries.set(id, { noted, numCharacters });
    for (const engineId of noted.engineIds) this.#byEngineId.set(engineId, id);
    this.#numSequences += noted.engineIds.length;
    this.#numCharacters += numCharacters;
    for (const oldest of this.#entries.keys()) {
      const fits =
        this.#numSequences <= this.#maxSequences && this.#numCharacters <= this.#maxCharacters;
      if (fits || oldest === id) break;
      this.#forget(oldest);
    }
    return id;
  }

  /** Undefined for an unknown id and for one of another party alike. */
  get(id: string, party: string): Noted | undefined {
    const noted = this.#entries.get(id)?.noted;
    return noted?.party === party ? noted : undefined;
  }

  /** The request that the engine knows by this id. */
  ofEngineId(engineId: string): Noted | undefined {
    const id = this.#byEngineId.get(engineId);
    return id === undefined ? undefined : this.#entries.get(id)?.noted;
  }

  /** The engine's ids of all requests of a party. */
  engineIdsOf(party: string): string[] {
    return [...this.#entries.values()].flatMap(({ noted }) =>
      noted.party === party ? noted.engineIds : [],
    );
  }

  #forget(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    for (const engineId of entry.noted.engineIds) this.#byEngineId.delete(engineId);
    this.#numSequences -= entry.noted.engineIds.length;
    this.#numCharacters -= entry.numCharacters;
  }
}

function charactersOf(rendering: Rendering | undefined): number {
  return rendering === undefined ? 0 : textLength(rendering.messages) + textLength(rendering.tools);
}

/** Of all texts at any depth, and a few more for each value. */
function textLength(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  return Object.values(value).reduce<number>((sum, item) => sum + 8 + textLength(item), 0);
}
