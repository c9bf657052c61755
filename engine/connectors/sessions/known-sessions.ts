/** The sessions that are known: those that requests have named lately, and those that are kept. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import { KvEngineError } from "../../errors.ts";
import type { NamedRequest } from "./session-query.ts";
import type { SessionTools } from "./session-tools.ts";

/** Most sessions that are kept at a time. */
const MOST_KEPT = 1024;

export interface KnownSession {
  readonly name: string;
  readonly owner: string;
  /** Of full blocks: the prompt of its last request, and the answer as far as its KV was computed. */
  readonly tokenIds: Int32Array;
  readonly cacheSalt: string | undefined;
  /** Of block 0 in each group, then of block 1, and so on. */
  readonly keys: readonly BlockKey[];
  /** Milliseconds of the clock until which it is kept; undefined = it is not. */
  readonly endsAt: number | undefined;
}

/** Requests that are remembered. */
export interface SessionPrompts {
  get(id: string):
    | {
        readonly tokenIds: Int32Array;
        /** Leading tokens whose KV was computed or found. */
        readonly numComputedTokens: number;
        readonly cacheSalt: string | undefined;
      }
    | undefined;
}

export class KnownSessions {
  readonly #prompts: SessionPrompts | undefined;
  readonly #tools: Pick<SessionTools, "keysOf" | "model" | "now">;
  readonly #kept = new Map<string, KnownSession>();

  constructor(
    prompts: SessionPrompts | undefined,
    tools: Pick<SessionTools, "keysOf" | "model" | "now">,
  ) {
    this.#prompts = prompts;
    this.#tools = tools;
  }

  list(owner: string, named: readonly NamedRequest[]): readonly KnownSession[] {
    this.#expire();
    const kept = [...this.#kept.values()].filter((session) => session.owner === owner);
    const names = new Set(kept.map(({ name }) => name));
    const live = named.flatMap(({ session, request }) =>
      names.has(session) ? [] : (this.#live(owner, session, request) ?? []),
    );
    return [...kept, ...live];
  }

  /** As its last request left it, where that is remembered, else as it is kept. Throws `not_found`, and `invalid_request` for less than a block. */
  find(owner: string, name: string, request: string | undefined): KnownSession {
    this.#expire();
    const kept = this.#kept.get(keyOf(owner, name));
    const live = request === undefined ? undefined : this.#live(owner, name, request);
    const session = live === undefined ? kept : { ...live, endsAt: kept?.endsAt };
    if (session === undefined)
      throw new KvEngineError("not_found", "the session is not remembered any more", {
        subject: "session",
        hint: "send its next message, and freeze it then",
      });
    if (session.keys.length > 0) return session;
    const size = this.#tools.model.block_size;
    throw new KvEngineError(
      "invalid_request",
      `the session does not fill a block of ${size} tokens, and less than a block is not kept`,
      { subject: "session" },
    );
  }

  /** Throws `invalid_request` where too many are kept. */
  keep(session: KnownSession): void {
    const key = keyOf(session.owner, session.name);
    if (this.#kept.size >= MOST_KEPT && !this.#kept.has(key))
      throw new KvEngineError("invalid_request", `at most ${MOST_KEPT} sessions can be kept`, {
        subject: "session",
        hint: "thaw others",
      });
    this.#kept.set(key, session);
  }

  forget({ owner, name }: KnownSession): void {
    this.#kept.delete(keyOf(owner, name));
  }

  #live(owner: string, name: string, request: string): KnownSession | undefined {
    const prompt = this.#prompts?.get(request);
    if (prompt === undefined) return undefined;
    const { keysOf, model } = this.#tools;
    const { cacheSalt, numComputedTokens } = prompt;
    const length = numComputedTokens - (numComputedTokens % model.block_size);
    const tokenIds = prompt.tokenIds.slice(0, length);
    const keys = keysOf(tokenIds, cacheSalt);
    return { name, owner, tokenIds, cacheSalt, keys, endsAt: undefined };
  }

  #expire(): void {
    const now = this.#tools.now();
    for (const [key, { endsAt = Infinity }] of this.#kept)
      if (endsAt <= now) this.#kept.delete(key);
  }
}

function keyOf(owner: string, name: string): string {
  return JSON.stringify([owner, name]);
}
