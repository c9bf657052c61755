/**
 * The suite that every tier should pass, of ours and of others: each rule on tiers of its own, with pages that the rule makes up. What
 * needs an engine (`serving-rules.ts`) is tried by `kvengine connectors test`.
 */

import { readNothing, readStats } from "./answers.ts";
import { Broken, type Rule, testConnector, Unusable } from "./conformance.ts";
import { endsOf } from "./conformance-rules.ts";
import { parseOptions } from "./options.ts";
import type { RuleResult } from "./rule-result.ts";
import { showThrown } from "./safe-text.ts";
import { readBoolean, readHas } from "./tier-answers.ts";
import { describeTier, type TierDescription } from "./tier-class.ts";
import type { KvTier, TierClass } from "./tier.ts";

export interface TestTierOptions {
  /** Beside the defaults of the tier's own. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Bytes of the pages that it is tried with; 4 KiB when left out. */
  readonly pageBytes?: number;
  /** How long one call may take, in milliseconds; 5,000 when left out. */
  readonly patienceMs?: number;
}

/** A tier's class against the rules of `KvTier`, in order. Throws `invalid` for what is no tier. */
export async function testTier(
  tierClass: TierClass,
  { options = {}, pageBytes = 4096, patienceMs = 5000 }: TestTierOptions = {},
): Promise<readonly RuleResult[]> {
  const description = describeTier(tierClass);
  return testConnector(new Trial(description, options, pageBytes, patienceMs), TIER_RULES);
}

/** Pages of one key each, so that a page of another key is seen. */
const NUM_PAGES = 24;
/** Far more than a tier of one page has room for. */
const MANY_PAGES = 200;

class Trial {
  readonly description: TierDescription;
  readonly pageBytes: number;
  readonly #options: Readonly<Record<string, unknown>>;
  readonly #patienceMs: number;

  constructor(
    description: TierDescription,
    options: Readonly<Record<string, unknown>>,
    pageBytes: number,
    patienceMs: number,
  ) {
    this.description = description;
    this.pageBytes = pageBytes;
    this.#options = options;
    this.#patienceMs = patienceMs;
  }

  /** A tier that was started. */
  async start(more: Readonly<Record<string, unknown>> = {}): Promise<Tried> {
    const { name, options, tierClass } = this.description;
    let tier: KvTier;
    try {
      tier = new tierClass(parseOptions(options, { ...this.#options, ...more }));
    } catch (thrown) {
      const Failure = Object.keys(more).length === 0 ? Unusable : Broken;
      throw new Failure(`its constructor threw ${showThrown(thrown)}`);
    }
    const tried = new Tried(tier, this.pageBytes, this.#patienceMs);
    const silent = { info(): void {}, warn(): void {}, error(): void {} };
    const context = { name, pageBytes: this.pageBytes, log: silent, now: () => performance.now() };
    await tried.ask("start", () => tier.start(context), readNothing);
    return tried;
  }
}

/** A tier in a rule's hands: every answer is checked, and waited for in vain no longer than patience lasts. */
class Tried {
  readonly tier: KvTier;
  readonly #pageBytes: number;
  readonly #patienceMs: number;

  constructor(tier: KvTier, pageBytes: number, patienceMs: number) {
    this.tier = tier;
    this.#pageBytes = pageBytes;
    this.#patienceMs = patienceMs;
  }

  async ask<T>(what: string, invoke: () => unknown, read: (answer: unknown) => T): Promise<T> {
    const { promise: passed, resolve } = Promise.withResolvers<typeof LATE>();
    const timer = setTimeout(resolve, this.#patienceMs, LATE);
    try {
      const answer = await Promise.race([invoke(), passed]);
      if (answer === LATE) throw new Broken(`${what} does not answer`);
      return read(answer);
    } catch (thrown) {
      if (thrown instanceof Broken) throw thrown;
      const isAnswer = thrown instanceof TypeError && thrown.message.startsWith("answered");
      throw new Broken(`${what} ${isAnswer ? thrown.message : `threw ${showThrown(thrown)}`}`);
    } finally {
      clearTimeout(timer);
    }
  }

  has(keys: readonly string[]): Promise<readonly boolean[]> {
    return this.ask("has", () => this.tier.has(keys), readHas(keys.length));
  }

  /** As the engine does it: the page is taken away afterwards. */
  async store(key: string, page: Uint8Array = this.page(key)): Promise<boolean> {
    const isKept = await this.ask("store", () => this.tier.store(key, page), readBoolean);
    page.fill(0);
    takeAway(page);
    return isKept;
  }

  /** The page of a key, undefined where there is none. */
  async load(key: string): Promise<Uint8Array | undefined> {
    const into = new Uint8Array(this.#pageBytes).fill(0xee);
    const isThere = await this.ask("load", () => this.tier.load(key, into), readBoolean);
    return isThere ? into : undefined;
  }

  remove(keys: readonly string[]): Promise<void> {
    return this.ask("remove", () => this.tier.remove(keys), readNothing);
  }

  /** Bytes that follow from the key, no two alike. */
  page(key: string): Uint8Array {
    let state = 1;
    for (const letter of key) state = (Math.imul(state, 31) + (letter.codePointAt(0) ?? 0)) | 0;
    return Uint8Array.from({ length: this.#pageBytes }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      return state >>> 24;
    });
  }

  /** Throws unless the tier brings this key's page, or has none; answers whether it brought it. */
  async brings(key: string, when: string): Promise<boolean> {
    const page = await this.load(key);
    if (page === undefined) return false;
    const at = this.page(key).findIndex((byte, i) => page[i] !== byte);
    if (at < 0) return true;
    throw new Broken(`load brought other bytes than were stored, from byte ${at} on, ${when}`);
  }

  /** Stores pages of these keys and answers those that were kept. */
  async storeAll(keys: readonly string[]): Promise<readonly string[]> {
    const kept: string[] = [];
    for (const key of keys) if (await this.store(key)) kept.push(key);
    return kept;
  }
}

const LATE: unique symbol = Symbol("late");

function takeAway(page: Uint8Array): void {
  (page.buffer as ArrayBuffer).transfer();
}

/** Keys as the engine's are: 64 hex digits and the group. They differ where a careless tier does not look. */
function keysOf(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => {
    const digits = Math.floor(i / 2)
      .toString(16)
      .padStart(8, "0");
    return `${"5eed".repeat(14)}${digits}:${i % 2}`;
  });
}

/** A tier that keeps nothing at all cannot be told from one that works. */
function expectSome(kept: readonly string[], pageBytes: number): void {
  if (kept.length === 0)
    throw new Broken(`store declined every one of ${NUM_PAGES} pages of ${pageBytes} bytes`);
}

const TIER_RULES: readonly Rule<Trial>[] = [
  {
    name: "is constructed and started with its defaults, and with each option at either end of its range",
    async run(trial): Promise<void> {
      await trial.start();
      for (const [name, option] of Object.entries(trial.description.options)) {
        if (option.help.trim().length < 10)
          throw new Broken(`the help of ${name} says nothing: "${option.help}"`);
        for (const value of endsOf(option)) {
          try {
            await trial.start({ [name]: value });
          } catch (thrown) {
            const why = thrown instanceof Broken ? thrown.message : showThrown(thrown);
            throw new Broken(`with ${name} = ${JSON.stringify(value)} ${why}`);
          }
        }
      }
    },
  },
  {
    name: "answers for as many keys as it was asked for, also for none",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      for (const count of [0, 1, NUM_PAGES]) await tried.has(keysOf(count));
    },
  },
  {
    name: "finds nothing where nothing was stored",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const [key = ""] = keysOf(1);
      const unknown = key.replaceAll("5eed", "0bad");
      if ((await tried.has([unknown])).includes(true))
        throw new Broken("has answered true for a key that was never stored");
      if ((await tried.load(unknown)) !== undefined)
        throw new Broken("load answered true for a key that was never stored");
      await tried.remove([unknown]);
    },
  },
  {
    name: "brings what it was given, byte for byte, each key its own page, although the page it was given is gone",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const kept = await tried.storeAll(keysOf(NUM_PAGES));
      expectSome(kept, trial.pageBytes);
      const last = kept.at(-1) ?? "";
      if (!(await tried.brings(last, "after its store")))
        throw new Broken("load answered false for the page that was stored last");
      for (const key of kept) await tried.brings(key, "after others were stored");
    },
  },
  {
    name: "has what it brings, and brings what it has",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const keys = keysOf(NUM_PAGES);
      await tried.storeAll(keys.slice(0, NUM_PAGES / 2));
      const has = await tried.has(keys);
      for (const [i, key] of keys.entries()) {
        const brings = await tried.brings(key, "after has was asked");
        if (brings !== has[i]) throw new Broken(`has answered ${has[i]}, and load ${brings}`);
      }
    },
  },
  {
    name: "takes a page that it has already",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const [key = ""] = keysOf(1);
      for (let i = 0; i < 3; i++) await tried.store(key);
      await tried.brings(key, "after it was stored three times");
    },
  },
  {
    name: "forgets what is removed, and nothing else",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const keys = await tried.storeAll(keysOf(4));
      const there = (await tried.has(keys)).filter(Boolean).length;
      const [first, ...rest] = keys;
      if (first === undefined) return;
      await tried.remove([first]);
      if ((await tried.load(first)) !== undefined) throw new Broken("load brought a removed page");
      if ((await tried.has([first])).includes(true))
        throw new Broken("has answered true for a removed key");
      const left = (await tried.has(rest)).filter(Boolean).length;
      if (left < Math.min(rest.length, there - 1))
        throw new Broken(`${rest.length - left} more pages are gone than the one that was removed`);
    },
  },
  {
    name: "takes many calls at a time",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const keys = keysOf(NUM_PAGES);
      await Promise.all(keys.map((key) => tried.store(key)));
      await Promise.all(keys.map((key) => tried.brings(key, "among many calls at a time")));
    },
  },
  {
    name: "is not misled by a page that is taken away in the middle of a call, as happens at a time-out",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      for (const key of keysOf(NUM_PAGES)) {
        const page = tried.page(key);
        const call = tried.ask(
          "store",
          () => tried.tier.store(key, page),
          () => true,
        );
        takeAway(page);
        // It may fail now, as it likes.
        await call.catch(() => false);
        await tried.brings(key, "after its page was taken away in the middle of store");
      }
    },
  },
  {
    name: "brings no wrong page when it is full",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const keys = keysOf(MANY_PAGES);
      await tried.storeAll(keys);
      for (const key of keys) await tried.brings(key, `after ${MANY_PAGES} pages were stored`);
    },
  },
  {
    name: "works on after clear",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      const keys = keysOf(2);
      await tried.storeAll(keys);
      await tried.ask("clear", () => tried.tier.clear(), readNothing);
      const kept = await tried.storeAll(keys);
      for (const key of kept) await tried.brings(key, "after clear");
    },
  },
  {
    name: "answers stats by numbers",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      await tried.ask("stats", () => tried.tier.stats(), readStats);
    },
  },
  {
    name: "ends in good time",
    async run(trial): Promise<void> {
      const tried = await trial.start();
      await tried.store(keysOf(1)[0] ?? "");
      const deadline = performance.now() + 1000;
      await tried.ask("shutdown", () => tried.tier.shutdown(deadline), readNothing);
    },
  },
];

/** How many there are. */
export const NUM_TIER_RULES: number = TIER_RULES.length;
