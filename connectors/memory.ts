/**
 * A tier in this process's memory, least recently used out first: the example of a tier. It is of use where pages of the host pool
 * are few because a device pins them.
 */

import type { BlockKey } from "./block-pool-view.ts";
import type { ConnectorOptions, OptionValues } from "./options.ts";
import { KvTier, TIER_API_VERSION } from "./tier.ts";

export default class Memory extends KvTier {
  static readonly tierName: string = "memory";
  static readonly apiVersion: number = TIER_API_VERSION;
  static readonly options: ConnectorOptions = {
    size: {
      type: "bytes",
      default: 2 ** 30,
      min: 0,
      max: 2 ** 50,
      help: "Most bytes that it keeps",
    },
  };
  readonly #size: number;
  /** In order of use, the newest last. */
  readonly #pages = new Map<BlockKey, Uint8Array>();
  #bytes = 0;

  constructor({ size }: OptionValues) {
    super();
    this.#size = Number(size);
  }

  override has(keys: readonly BlockKey[]): readonly boolean[] {
    return keys.map((key) => this.#pages.has(key));
  }

  override store(key: BlockKey, page: Uint8Array): boolean {
    if (page.length > this.#size) return false;
    this.remove([key]);
    for (const oldest of this.#pages.keys()) {
      if (this.#bytes + page.length <= this.#size) break;
      this.remove([oldest]);
    }
    this.#pages.set(key, page.slice());
    this.#bytes += page.length;
    return true;
  }

  override load(key: BlockKey, into: Uint8Array): boolean {
    const page = this.#pages.get(key);
    if (page === undefined) return false;
    this.#pages.delete(key);
    this.#pages.set(key, page);
    into.set(page);
    return true;
  }

  override remove(keys: readonly BlockKey[]): void {
    for (const key of keys) {
      this.#bytes -= this.#pages.get(key)?.length ?? 0;
      this.#pages.delete(key);
    }
  }

  override clear(): void {
    this.#pages.clear();
    this.#bytes = 0;
  }

  override stats(): Readonly<Record<string, number>> {
    return { bytes: this.#bytes, pages: this.#pages.size };
  }
}
