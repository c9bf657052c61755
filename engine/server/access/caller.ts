/** Whoever sends requests: how many at a time and in a minute, how soon, and with whom cached KV is shared. */

import { KvEngineError } from "../../errors.ts";
import { Pace } from "../pace.ts";
import type { ApiKey } from "./api-keys.ts";

export interface Caller {
  /** Of the key; empty where there are none. */
  readonly name: string;
  /** Counts a request. Throws `too_many_requests` beyond the rate, with the time until the next may come. */
  checkRate(): void;
  /** Begins a request; the result ends it, once. Throws `too_many_requests` where too many run. */
  begin(): () => void;
  /** The priority of a request that asks for this one. */
  priority(asked: number): number;
  /** The salt of a request that asks for this one. */
  cacheSalt(asked: string | undefined): string | undefined;
}

/** Where no keys are asked for. */
export const ANYBODY: Caller = createCaller({ name: "", key: "" });

/** `now`: milliseconds that never go back. */
export function createCaller(key: ApiKey, now: () => number = () => performance.now()): Caller {
  const bucket = key.rate === undefined ? undefined : new TokenBucket(key.rate, now);
  let running = 0;
  const pace = new Pace(now);
  return {
    name: key.name,
    checkRate(): void {
      const wait = bucket?.take() ?? 0;
      if (wait > 0)
        throw tooMany(`${key.rate} requests a minute are allowed for this API key`, wait);
    },
    begin(): () => void {
      if (running >= (key.concurrency ?? Number.POSITIVE_INFINITY))
        throw tooMany(
          `${running} requests of this API key are running, at most ${key.concurrency} may`,
          pace.secondsFor(1),
        );
      if (running === 0) pace.begin();
      running++;
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        running--;
        pace.passed();
      };
    },
    priority(asked): number {
      if (key.priority === undefined) return asked;
      // 0 is also what a request has that asks for none.
      return asked === 0 ? key.priority : Math.max(asked, key.priority);
    },
    cacheSalt: (asked) =>
      key.cacheSalt === undefined ? asked : JSON.stringify(["key", key.cacheSalt, asked ?? null]),
  };
}

/** Fills up evenly; a minute's worth may be taken at once, and never less than one. */
class TokenBucket {
  readonly #perMinute: number;
  readonly #most: number;
  readonly #now: () => number;
  #tokens: number;
  #filledAt: number;

  constructor(perMinute: number, now: () => number) {
    this.#perMinute = perMinute;
    this.#now = now;
    this.#most = Math.max(1, perMinute);
    this.#tokens = this.#most;
    this.#filledAt = now();
  }

  /** Takes one, or says in how many seconds there will be one. */
  take(): number {
    const now = this.#now();
    const filled = ((now - this.#filledAt) / 60_000) * this.#perMinute;
    this.#tokens = Math.min(this.#most, this.#tokens + filled);
    this.#filledAt = now;
    if (this.#tokens < 1) return ((1 - this.#tokens) / this.#perMinute) * 60;
    this.#tokens--;
    return 0;
  }
}

function tooMany(message: string, seconds: number): KvEngineError {
  return new KvEngineError("too_many_requests", message, { retryAfter: Math.ceil(seconds) });
}
