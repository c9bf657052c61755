/**
 * A tier that does what a seed says: works, lags, fails, hangs, declines, forgets, lies, corrupts, gives the pages of others, keeps what it
 * was lent and gives it away. It is all that a tier may be, at a test's clock.
 */

import type { BlockKey } from "../../connectors/connector.ts";
import { type Answer, KvTier } from "../../connectors/tier.ts";
import { Dice } from "../../engine/connectors/trial/dice.ts";

/** What a call may come to. */
export type Mood =
  | "works"
  | "lags"
  | "throws"
  | "rejects"
  | "hangs"
  | "declines"
  | "nonsense"
  | "lies"
  | "corrupts"
  | "mixes up"
  | "replays"
  | "gives away";

export const MOODS: readonly Mood[] = [
  "works",
  "lags",
  "throws",
  "rejects",
  "hangs",
  "declines",
  "nonsense",
  "lies",
  "corrupts",
  "mixes up",
  "replays",
  "gives away",
];

export class OddTier extends KvTier {
  /** How often each mood took its turn. */
  readonly seen: Map<Mood, number> = new Map();
  /** Most pages that were in its hands at a time, those of calls that never ended included. */
  mostLent = 0;
  readonly #dice: Dice;
  readonly #moods: readonly Mood[];
  readonly #mostPages: number;
  readonly #pages = new Map<BlockKey, Uint8Array>();
  /** The first page that it saw of each key, whatever was removed since. */
  readonly #old = new Map<BlockKey, Uint8Array>();
  /** What was put off. */
  readonly #later: (() => void)[] = [];
  /** What it was lent and still has. */
  readonly #kept = new Set<Uint8Array>();
  #numLent = 0;

  constructor(seed: number, moods: readonly Mood[], mostPages: number) {
    super();
    this.#dice = new Dice(seed);
    this.#moods = moods;
    this.#mostPages = mostPages;
  }

  /** Lets what was put off go on: all of it, or one piece. Answers whether there was any. */
  turn(isIdle: boolean): boolean {
    const some = isIdle ? this.#later.splice(0, 1) : this.#later.splice(0);
    for (const goOn of some) goOn();
    // Whoever keeps what was lent finds nothing in it, or what is of no use to anybody.
    for (const page of this.#kept) if (page.length > 0) page.fill(0xbd);
    return some.length > 0;
  }

  override has(keys: readonly BlockKey[]): Answer<readonly boolean[]> {
    const mood = this.#mood();
    const truth = keys.map((key) => this.#pages.has(key));
    switch (mood) {
      case "lies":
        return keys.map(() => true);
      case "nonsense":
        return [true] as readonly boolean[];
      case "declines":
        return keys.map(() => false);
      default:
        return this.#answer(mood, () => truth);
    }
  }

  override store(key: BlockKey, page: Uint8Array): Answer<boolean> {
    const mood = this.#lent(page);
    return this.#answer(mood, () => this.#store(mood, key, page), page);
  }

  override load(key: BlockKey, into: Uint8Array): Answer<boolean> {
    const mood = this.#lent(into);
    return this.#answer(mood, () => this.#load(mood, key, into), into);
  }

  override remove(keys: readonly BlockKey[]): void {
    for (const key of keys) this.#pages.delete(key);
  }

  override clear(): void {
    if (this.#dice.chance(0.5)) this.#pages.clear();
  }

  #store(mood: Mood, key: BlockKey, page: Uint8Array): boolean {
    // It was taken away: that is a time-out.
    if (page.length === 0) return true;
    if (mood === "declines" || this.#pages.size >= this.#mostPages) return false;
    if (mood === "lies") return true;
    const copy = page.slice();
    if (mood === "corrupts") flip(copy, this.#dice);
    this.#pages.set(key, copy);
    if (!this.#old.has(key)) this.#old.set(key, copy);
    return true;
  }

  #load(mood: Mood, key: BlockKey, into: Uint8Array): boolean {
    if (into.length === 0) return true;
    if (mood === "declines") return false;
    if (mood === "lies") return true;
    const others = [...this.#pages.values()];
    const other = others.length === 0 ? undefined : this.#dice.pick(others);
    const page =
      mood === "mixes up" ? other : mood === "replays" ? this.#old.get(key) : this.#pages.get(key);
    if (page === undefined) return false;
    into.set(page);
    if (mood === "corrupts") flip(into, this.#dice);
    return true;
  }

  #mood(): Mood {
    const mood = this.#dice.pick(this.#moods);
    this.seen.set(mood, (this.seen.get(mood) ?? 0) + 1);
    return mood;
  }

  #lent(page: Uint8Array): Mood {
    const mood = this.#mood();
    this.#numLent++;
    this.mostLent = Math.max(this.mostLent, this.#numLent);
    this.#kept.add(page);
    if (mood === "gives away" && page.length > 0)
      this.#kept.add(structuredClone(page, { transfer: [page.buffer as ArrayBuffer] }));
    return mood;
  }

  #answer<T>(mood: Mood, answer: () => T, lent?: Uint8Array): Answer<T> {
    const end = (): T => {
      if (lent !== undefined) this.#numLent--;
      return answer();
    };
    switch (mood) {
      case "throws":
        end();
        throw new Error("no");
      case "nonsense":
        end();
        return 7 as T;
      case "rejects":
        return this.#put(() => {
          end();
          throw new Error("later no");
        });
      case "hangs":
        return new Promise<T>(() => {});
      case "works":
        return end();
      default:
        return mood === "lags" || this.#dice.chance(0.5) ? this.#put(end) : end();
    }
  }

  #put<T>(answer: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#later.push(() => {
      try {
        resolve(answer());
      } catch (thrown) {
        reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
      }
    });
    return promise;
  }
}

function flip(page: Uint8Array, dice: Dice): void {
  const at = dice.below(page.length);
  page[at] = (page[at] ?? 0) ^ (1 << dice.below(8));
}
