/**
 * Sees from the HTTP thread that a connector's hook does not return. It looks only while somebody waits for the engine, and goes by what
 * it has seen itself: a process that was stopped for an hour has not hung for an hour.
 */

import { readHookWord } from "./hook-turn.ts";
import type { Hook } from "./hooks.ts";

/** Looks within one time-out: a hang is seen at most two of them late. */
const LOOKS = 10;

export interface HangWatchdogOptions {
  readonly word: SharedArrayBuffer;
  /** How long one call may run, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether somebody waits for the engine. */
  readonly isAwaited: () => boolean;
  /** Called once. `connector` is its place. */
  readonly onHang: (connector: number, hook: Hook) => void;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

export class HangWatchdog {
  readonly #options: HangWatchdogOptions;
  readonly #now: () => number;
  readonly #intervalMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** The call that the last look saw, and for how long looks have seen it. */
  #call: number | undefined;
  #seenMs = 0;
  #lookedAt = 0;

  constructor(options: HangWatchdogOptions) {
    this.#options = options;
    this.#now = options.now ?? ((): number => performance.now());
    this.#intervalMs = Math.max(1, options.timeoutMs / LOOKS);
  }

  /** Looks from now on, until nobody waits any more. */
  watch(): void {
    if (this.#timer !== undefined) return;
    this.#call = undefined;
    this.#lookedAt = this.#now();
    this.#timer = setInterval(() => this.look(), this.#intervalMs);
    // The engine's thread keeps the process alive, not the one that looks at it.
    this.#timer.unref();
  }

  /** One look; the timer's, and the tests'. */
  look(): void {
    const now = this.#now();
    // What lies between two looks beyond their interval, this thread did not run; the other may not have either.
    const sinceMs = Math.min(now - this.#lookedAt, 2 * this.#intervalMs);
    this.#lookedAt = now;
    if (!this.#options.isAwaited()) return this.stop();
    const running = readHookWord(this.#options.word);
    const isSame = running !== undefined && running.call === this.#call;
    this.#seenMs = isSame ? this.#seenMs + sinceMs : 0;
    this.#call = running?.call;
    if (running === undefined || this.#seenMs < this.#options.timeoutMs) return;
    this.stop();
    this.#options.onHang(running.connector, running.hook);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
