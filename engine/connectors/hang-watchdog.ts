/**
 * Sees from the HTTP thread that code of a connector does not return: a hook, or what it left behind on the engine's thread (a timer,
 * the rest of a promise). It looks only while somebody waits for the engine, and goes by what it has seen itself: a process that was
 * stopped for an hour has not hung for an hour.
 */

import type { EngineConfig } from "../config.ts";
import type { ErrorData } from "../errors.ts";
import { readHookWord } from "./hook-turn.ts";
import type { Hook } from "./hooks.ts";
import { namedConnectors } from "./named-connectors.ts";

/** Looks within one time-out: a hang is seen at most two of them late. */
const LOOKS = 10;

export interface Hang {
  /** Place of the connector and its hook; undefined = no hook runs, and the thread answers nothing all the same. */
  readonly running: { readonly connector: number; readonly hook: Hook } | undefined;
}

export interface HangWatchdogOptions {
  readonly word: SharedArrayBuffer;
  /** How long one call may run, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether somebody waits for the engine. */
  readonly isAwaited: () => boolean;
  /** Asks the engine's thread for any message; false = it need not answer now. */
  readonly ping: () => boolean;
  /** Called once. */
  readonly onHang: (hang: Hang) => void;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/** What requests are answered with, and what the process ends by. */
export function hangError({ running }: Hang, config: EngineConfig): ErrorData {
  const { kvConnectorHangTimeout: seconds } = config;
  const named = namedConnectors(config);
  return {
    code: "connector_hung",
    message:
      running === undefined
        ? `the engine's thread has not answered for ${seconds} s while no hook ran: code that ${named.join(" or ")} left behind holds it up`
        : `the connector ${named[running.connector]} has not returned from ${running.hook} for ${seconds} s`,
    hint: "nothing can interrupt it: the process ends; --kv-connector-hang-timeout says when",
  };
}

export class HangWatchdog {
  readonly #options: HangWatchdogOptions;
  readonly #now: () => number;
  readonly #intervalMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** The call that the last look saw, and for how long looks have seen it. */
  #call: number | undefined;
  #callMs = 0;
  /** For how long the thread has owed an answer. */
  #silentMs = 0;
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
    this.#silentMs = 0;
    this.#lookedAt = this.#now();
    this.#timer = setInterval(() => this.look(), this.#intervalMs);
    // The engine's thread keeps the process alive, not the one that looks at it.
    this.#timer.unref();
  }

  /** A message has come from the engine's thread. */
  heard(): void {
    this.#silentMs = 0;
  }

  /** One look; the timer's, and the tests'. */
  look(): void {
    const { isAwaited, ping, word, timeoutMs, onHang } = this.#options;
    const now = this.#now();
    // What lies between two looks beyond their interval, this thread did not run; the other may not have either.
    const sinceMs = Math.min(now - this.#lookedAt, 2 * this.#intervalMs);
    this.#lookedAt = now;
    if (!isAwaited()) return this.stop();
    const running = readHookWord(word);
    const isSame = running !== undefined && running.call === this.#call;
    this.#callMs = isSame ? this.#callMs + sinceMs : 0;
    this.#call = running?.call;
    this.#silentMs = ping() ? this.#silentMs + sinceMs : 0;
    if (Math.max(this.#callMs, this.#silentMs) < timeoutMs) return;
    this.stop();
    onHang({ running });
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
