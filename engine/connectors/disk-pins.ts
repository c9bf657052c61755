/** What is to stay on the disk: pinned there at once where it is there, else when it has been stored, and until the last of its pins ends. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import type { DiskStore } from "../cache/disk-store.ts";
import { type Pin, Retained } from "./retained.ts";

export class DiskPins {
  readonly #disk: Pick<DiskStore, "pin" | "unpin">;
  /** The disk bounds by itself what it keeps. */
  readonly #pins: Retained;
  /** Seconds since 1970 of a time of the clock. */
  readonly #secondsOf: (at: number) => number;

  /** `now`: milliseconds, monotonic; `epochMs`: milliseconds since 1970. */
  constructor(disk: Pick<DiskStore, "pin" | "unpin">, now: () => number, epochMs: () => number) {
    this.#disk = disk;
    this.#pins = new Retained(Infinity, now);
    this.#secondsOf = (at): number => Math.ceil((epochMs() + at - now()) / 1000);
  }

  /** In the place of one with the same id. */
  add(pin: Pin): void {
    this.#pins.add(pin);
    this.stored(pin.keys);
  }

  /** Ends a pin of this owner, if there is one. */
  remove(id: string, owner: string): void {
    const keys = this.#pins.remove(id, owner)?.keys.filter((key) => !this.#pins.has(key)) ?? [];
    if (keys.length > 0) this.#disk.unpin(keys);
  }

  /** These are on the disk, some of them perhaps. */
  stored(keys: readonly BlockKey[]): void {
    for (const [end, some] of Map.groupBy(keys, (key) => this.#pins.endOf(key)))
      if (end !== undefined) this.#disk.pin(some, this.#secondsOf(end));
  }
}
