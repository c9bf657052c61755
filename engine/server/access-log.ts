/** One entry for each request that was answered: never a word of what was asked or said. */

import type { Usage } from "../request.ts";

export interface AccessEntry {
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  /** Name of the API key. */
  key?: string;
  status: number;
  /** From the request's arrival to the last byte handed over. */
  ms: number;
  usage?: Usage;
  /** How the answer ended, where it was a stream: `end`, `error`, or who cut it. */
  outcome?: "end" | "error" | "left" | "slow";
}

/** Told of each entry; must not throw. */
export type AccessLog = (entry: AccessEntry) => void;

/** An entry under way; written once. */
export class AccessRecord {
  readonly entry: AccessEntry;
  /** Whether the answer goes on after its headers, so that its writer ends the entry. */
  isStream = false;
  readonly #log: AccessLog | undefined;
  readonly #start: number = performance.now();
  #written = false;

  constructor(log: AccessLog | undefined, requestId: string, method: string, path: string) {
    this.#log = log;
    this.entry = { requestId, method, path, status: 0, ms: 0 };
  }

  write(): void {
    if (this.#written) return;
    this.#written = true;
    this.entry.ms = performance.now() - this.#start;
    this.#log?.(this.entry);
  }
}
