/**
 * How far the engine is ahead of the HTTP side. An engine that makes tokens faster than they can be written to sockets would fill the memory
 * with them, and keep the thread that writes them from everything else that it does.
 */

import type { StepEvents } from "./scheduler/step-events.ts";

/** Weight of the messages that may be under way: some tens of milliseconds of the HTTP side's work. */
export const MAX_AHEAD = 2048;

/** What a message weighs: each of its tokens, and itself. */
export function weightOf({ tokenIds }: StepEvents): number {
  return 1 + tokenIds.length;
}

/** The engine's side: counts what was sent, and what the other side says that it took. */
export class ReadAhead {
  #ahead = 0;
  #onRoom: (() => void) | undefined;

  sent(weight: number): void {
    this.#ahead += weight;
  }

  taken(weight: number): void {
    this.#ahead -= weight;
    if (this.#ahead >= MAX_AHEAD) return;
    this.#onRoom?.();
    this.#onRoom = undefined;
  }

  /** Resolves once more may be sent. One call at a time. */
  async room(): Promise<void> {
    if (this.#ahead < MAX_AHEAD) return;
    await new Promise<void>((resolve) => (this.#onRoom = resolve));
  }
}
