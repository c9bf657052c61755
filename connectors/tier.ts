/**
 * What a tier is: a place below the host's memory where KV blocks are kept and found again, such as a disk or a cache that several
 * instances share. It keeps pages under keys, and that is all: what is stored and when, what is fetched and for whom, retries, time-outs
 * and what becomes of a tier that fails are the tiered connector's (`tiered.ts`), the same for all tiers.
 *
 * For every method: it may answer at once or promise to. A call that throws, rejects or takes longer than the tier's `timeoutMs` has
 * failed: the block is computed, or not stored, and after a few failures in a row the tier is left alone for a while. Methods run on
 * the engine's thread, so none may compute for long or wait for anything but its promise; several calls may be open at a time. No
 * failure of a tier can lead to a wrong token: a page that comes back counts only if it is what was stored under that key.
 */

import type { BlockKey } from "./block-pool-view.ts";
import type { ConnectorOptions, OptionValues } from "./options.ts";

/** Major version of this interface. */
export const TIER_API_VERSION = 1;

/** Now, or later. */
export type Answer<T> = T | Promise<T>;

export interface TierLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** What a tier is given at its start. */
export interface TierContext {
  /** The name that it runs under. */
  readonly name: string;
  /** Bytes of every page that it is given and is to give back. */
  readonly pageBytes: number;
  readonly log: TierLog;
  /** Milliseconds, monotonic. */
  now(): number;
}

/** What a tier's module exports by default. */
export interface TierClass {
  /** Unique among all tiers and connectors that run: up to 32 of a-z, 0-9 and -, a letter first. */
  readonly tierName: string;
  readonly apiVersion: number;
  /** What `--kv-connector-options` may say, beside what it may say of every tier (`TIER_OPTIONS`). */
  readonly options: ConnectorOptions;
  new (options: OptionValues): KvTier;
}

export abstract class KvTier {
  /** Once, before anything else, however long it takes: nothing else is called before it has settled, or at all if it fails. */
  start(_context: TierContext): Answer<void> {}

  /**
   * Of each key, in order, whether `load` would bring its page now. Called often, with many keys; what it answers by a promise is
   * believed for a few seconds. It may be wrong where it must: a page that is gone when it is loaded is computed instead.
   */
  abstract has(keys: readonly BlockKey[]): Answer<readonly boolean[]>;

  /**
   * Keeps a page: `load` of this key brings these bytes from now on. False = it does not (it is full, or does not want it). `page` is
   * the tier's to read and to change until the call has settled or timed out; then it is taken away (its length becomes 0), so
   * what is kept must be a copy. A key that it has already may be stored again: the bytes then mean the same.
   */
  abstract store(key: BlockKey, page: Uint8Array): Answer<boolean>;

  /**
   * Writes the whole page of a key to `into`. False = it is not there; what `into` holds then is nobody's. `into` is taken away as
   * `page` is.
   */
  abstract load(key: BlockKey, into: Uint8Array): Answer<boolean>;

  /** Forgets pages: they will not be asked for again. A key that is not there is no error. */
  abstract remove(keys: readonly BlockKey[]): Answer<void>;

  /** Forgets all pages: none that is here will count again. */
  clear(): Answer<void> {}

  /** Numbers for `/metrics`, as gauges: at most 16. `bytes` and `pages` are what others call how much it keeps. */
  stats(): Readonly<Record<string, number>> {
    return {};
  }

  /** Once, at the end. What it promises is waited for until `deadline` (of the context's clock). */
  shutdown(_deadline: number): Answer<void> {}
}
