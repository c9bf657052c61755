/** Tells the metrics of one sequence's tokens by when the engine had them, whenever the client reads them, or never. */

import type { Metrics } from "../metrics.ts";
import type { TokenEvent } from "../request.ts";

export class SequenceClock {
  readonly #metrics: Metrics;
  readonly #arrivedAt: number;
  readonly #maxTokens: number;
  /** When tokens came, as `epochMs`; 0 = not yet. */
  #first = 0;
  #last = 0;
  #endedAt = 0;
  #counted = false;

  /** `arrivedAt`: as `epochMs`. */
  constructor(metrics: Metrics, arrivedAt: number, maxTokens: number) {
    this.#metrics = metrics;
    this.#arrivedAt = arrivedAt;
    this.#maxTokens = maxTokens;
  }

  /** When the first token came, as `epochMs`; `undefined` = not yet. */
  get firstAt(): number | undefined {
    return this.#first === 0 ? undefined : this.#first;
  }

  /** When the engine ended the sequence, as `epochMs`; `undefined` = it has not. */
  get endedAt(): number | undefined {
    return this.#endedAt === 0 ? undefined : this.#endedAt;
  }

  /** An event that the engine had `at`. */
  came({ tokenIds, finish }: TokenEvent, at: number): void {
    if (tokenIds.length > 0) {
      if (this.#last === 0) {
        this.#metrics.firstToken(seconds(this.#arrivedAt, at));
        this.#first = at;
      } else {
        this.#metrics.nextTokens(seconds(this.#last, at), tokenIds.length);
      }
      this.#last = at;
    }
    if (finish !== undefined) this.#endedAt = at;
    if (finish?.reason !== "stop" && finish?.reason !== "length") return;
    this.#counted = true;
    this.#metrics.finished({
      reason: finish.reason,
      seconds: seconds(this.#arrivedAt, at),
      decodeSeconds: seconds(this.#first, this.#last),
      timing: finish.timing,
      usage: finish.usage,
      maxTokens: this.#maxTokens,
    });
  }

  /** The sequence was given up, unless it had come to its end. */
  gaveUp(reason: "abort" | "error"): void {
    if (this.#counted) return;
    this.#counted = true;
    this.#metrics.unfinished(reason);
  }
}

/** The clocks of two threads may differ by a little. */
function seconds(from: number, to: number): number {
  return Math.max(0, to - from) / 1000;
}
