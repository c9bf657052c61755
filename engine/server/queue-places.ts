/** Where requests stand that have no token yet: what the HTTP side knows of the engine's queue. */

import { Pace } from "./pace.ts";

export class QueuePlaces {
  /** In the order of their arrival. */
  readonly #waiting = new Set<object>();
  readonly #pace: Pace;

  constructor(pace: Pace = new Pace()) {
    this.#pace = pace;
  }

  enter(sequence: object): void {
    if (this.#waiting.size === 0) this.#pace.begin();
    this.#waiting.add(sequence);
  }

  leave(sequence: object): void {
    if (this.#waiting.delete(sequence)) this.#pace.passed();
  }

  /** In how many seconds whoever is at this place of the queue would get a token, as fast as the queue has been moving. */
  secondsAt(place: number): number {
    return this.#pace.secondsFor(place);
  }

  /**
   * Its place in the queue, from 1, where requests go in order of arrival; 0 = it is being computed; `undefined` = it has tokens or has
   * ended. `queued`: how many the engine says wait: those that came first are the others.
   */
  placeOf(sequence: object, queued: number): number | undefined {
    let index = 0;
    for (const one of this.#waiting) {
      index++;
      if (one === sequence) return Math.max(0, index - Math.max(0, this.#waiting.size - queued));
    }
    return undefined;
  }
}
