/** Notices when a stream has been quiet for a time, and when its reader takes nothing of what there is. */

import type { StreamTimes } from "./deps.ts";

export interface StreamEvents {
  /** Nothing was written for `keepAlive` seconds. */
  isQuiet(): void;
  /** Nothing moved for `slowReader` seconds. */
  isStill(): void;
}

/** Two timers for a whole stream: what moves on it only puts them back. */
export class StreamClock {
  readonly #quiet: NodeJS.Timeout | undefined;
  readonly #still: NodeJS.Timeout | undefined;

  constructor({ keepAlive, slowReader }: StreamTimes, events: StreamEvents) {
    if (keepAlive > 0) this.#quiet = setInterval(() => events.isQuiet(), keepAlive * 1000);
    if (slowReader > 0) this.#still = setInterval(() => events.isStill(), slowReader * 1000);
  }

  /** Something was written, or asked for. */
  moved(): void {
    this.#quiet?.refresh();
    this.#still?.refresh();
  }

  stop(): void {
    clearInterval(this.#quiet);
    clearInterval(this.#still);
  }
}
