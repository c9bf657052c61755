/** What is to stay on the disk: pinned there at once where it is there, else when it has been stored, and until the last of its pins ends. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import type { DiskStore } from "../cache/disk-store.ts";
import { type Pin, Retained } from "./retained.ts";

/** Pages whose pins are over and that are still remembered as kept, beyond as many as are pinned. */
const MOST_OVER = 1024;

export class DiskPins {
  readonly #disk: Pick<DiskStore, "pin" | "unpin">;
  /** The disk bounds by itself what it keeps. */
  readonly #pins: Retained;
  /** What the disk has said that it keeps, as long as anybody wants it to. */
  readonly #kept = new Set<BlockKey>();
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
    const before = this.#pins.get(pin.id)?.keys ?? [];
    this.#pins.add(pin);
    this.#end(before.filter((key) => !this.#pins.has(key)));
    if (this.#kept.size > 2 * this.#pins.size + MOST_OVER)
      for (const key of this.#kept) if (!this.#pins.has(key)) this.#kept.delete(key);
    this.stored(pin.keys);
  }

  /** Ends a pin of this owner, if there is one. */
  remove(id: string, owner: string): void {
    this.#end(this.#pins.remove(id, owner)?.keys.filter((key) => !this.#pins.has(key)) ?? []);
  }

  /** These are on the disk, some of them perhaps. */
  stored(keys: readonly BlockKey[]): void {
    for (const [end, some] of Map.groupBy(keys, (key) => this.#pins.endOf(key))) {
      if (end === undefined) continue;
      const pinned = this.#disk.pin(some, this.#secondsOf(end));
      for (const [i, key] of some.entries())
        if (pinned[i] === true) this.#kept.add(key);
        else this.#kept.delete(key);
    }
  }

  /** Whether the page was there when it was pinned, and there was room for its pin. */
  isKept(key: BlockKey): boolean {
    return this.#kept.has(key) && this.#pins.has(key);
  }

  #end(keys: readonly BlockKey[]): void {
    if (keys.length > 0) this.#disk.unpin(keys);
    for (const key of keys) this.#kept.delete(key);
  }
}
