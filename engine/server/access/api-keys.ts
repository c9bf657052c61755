/** API keys: who asks, and what that one may. Keys are kept and compared as SHA-256 digests. */

import { createHash, timingSafeEqual } from "node:crypto";
import { KvEngineError } from "../../errors.ts";
import { type Caller, createCaller } from "./caller.ts";

export interface ApiKey {
  /** For logs; unique. */
  readonly name: string;
  readonly key: string;
  /** Requests a minute; default: no limit. */
  readonly rate?: number | undefined;
  /** Requests at a time; default: no limit. */
  readonly concurrency?: number | undefined;
  /** The best priority that its requests get (lower goes first). */
  readonly priority?: number | undefined;
  /** Its requests share cached KV only with those under the same salt. */
  readonly cacheSalt?: string | undefined;
}

/** Whether two digests are the same. The time must not tell how much of them is. */
type Compare = (a: Buffer, b: Buffer) => boolean;

export class KeyRing {
  readonly #keys: readonly { readonly digest: Buffer; readonly caller: Caller }[];
  readonly #compare: Compare;

  /** Throws `bad_config` for an empty key and for a name or key that is there twice. */
  constructor(keys: readonly ApiKey[], compare: Compare = timingSafeEqual) {
    for (const [i, { key, name }] of keys.entries()) {
      const others = keys.slice(0, i);
      if (key === "") throw badKey("an API key is empty");
      if (others.some((other) => other.name === name))
        throw badKey(`the API key ${name} is there twice`);
      if (others.some((other) => other.key === key))
        throw badKey(
          `the API keys ${others.find((other) => other.key === key)?.name} and ${name} are the same`,
        );
    }
    this.#keys = keys.map((key) => ({ digest: digestOf(key.key), caller: createCaller(key) }));
    this.#compare = compare;
  }

  get isEmpty(): boolean {
    return this.#keys.length === 0;
  }

  /** Whose key an `Authorization` header carries. Throws `unauthorized`. Every key is compared each time. */
  find(authorization: string | undefined): Caller {
    const given = digestOf(/^Bearer +(.*)$/i.exec(authorization ?? "")?.[1] ?? "");
    let found: Caller | undefined;
    for (const { digest, caller } of this.#keys) if (this.#compare(digest, given)) found = caller;
    if (found !== undefined) return found;
    throw new KvEngineError(
      "unauthorized",
      authorization === undefined ? "no API key was given" : "this API key is not valid",
      { hint: "send the header Authorization: Bearer <key>" },
    );
  }
}

function digestOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

function badKey(message: string): KvEngineError {
  return new KvEngineError("bad_config", message, { subject: "--api-key" });
}
