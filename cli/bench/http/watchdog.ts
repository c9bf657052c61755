/** Ends what is silent for too long. One timer for all requests: a timer for each piece of each stream would be the client's main cost. */

import type { Clock } from "../types.ts";
import { type Patience, seconds, UnreachableError } from "./failure.ts";

/** A timeout is noticed at most this much too late, in milliseconds. */
const PERIOD_MS = 100;

export type Phase = "connecting" | "waiting" | "streaming";

/** A request that is watched. Whoever owns it keeps `phase`, `since` and `numChunks` in step with what comes. */
export interface Watched {
  readonly address: string;
  readonly abort: AbortController;
  phase: Phase;
  /** When the phase began, or the last piece came; by the clock. */
  since: number;
  numChunks: number;
}

export class Watchdog {
  readonly #clock: Clock;
  readonly #patience: Patience;
  readonly #watched = new Set<Watched>();
  #stop: AbortController | undefined;

  constructor(clock: Clock, patience: Patience) {
    this.#clock = clock;
    this.#patience = patience;
  }

  watch(one: Watched): void {
    this.#watched.add(one);
    if (this.#stop !== undefined) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  unwatch(one: Watched): void {
    this.#watched.delete(one);
    if (this.#watched.size > 0) return;
    this.#stop?.abort();
    this.#stop = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(PERIOD_MS, signal);
      if (signal.aborted) return;
      const now = this.#clock.now();
      for (const one of this.#watched) {
        const error = this.#silent(one, now - one.since);
        if (error !== undefined) one.abort.abort(error);
      }
    }
  }

  #silent({ phase, address, numChunks }: Watched, ms: number): Error | undefined {
    const { connectMs, firstChunkMs, stallMs } = this.#patience;
    switch (phase) {
      case "connecting":
        return ms < connectMs
          ? undefined
          : new UnreachableError(`cannot connect to ${address} within ${seconds(connectMs)}`);
      case "waiting":
        return ms < firstChunkMs
          ? undefined
          : new Error(`no output came within ${seconds(firstChunkMs)}`);
      case "streaming":
        return ms < stallMs
          ? undefined
          : new Error(`stalled: nothing came for ${seconds(stallMs)} after ${numChunks} chunks`);
    }
  }
}
