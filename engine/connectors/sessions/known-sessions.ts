/** The sessions that are known: those that requests have named lately, those that are kept, and those that were and are not any more. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import { KvEngineError } from "../../errors.ts";
import { saltDigest } from "./session-file.ts";
import type { NamedRequest } from "./session-query.ts";
import type { SessionTools } from "./session-tools.ts";

/** Most sessions that are kept at a time, and most tokens of theirs. */
export const MOST_KEPT = 1024;
const MOST_TOKENS: number = 32 * 2 ** 20;
/** Most that are known although they are kept no longer: as many as requests are remembered. */
const MOST_RELEASED = 256;
const MOST_RELEASED_TOKENS: number = 8 * 2 ** 20;

export interface KnownSession {
  readonly name: string;
  readonly owner: string;
  /** Of full blocks: the prompt of its last request, and the answer as far as its KV was computed. */
  readonly tokenIds: Int32Array;
  /** See `SessionHead.cache_salt_sha256`. */
  readonly saltDigest: string | null;
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

type Tools = Pick<SessionTools, "keysOf" | "model" | "now">;

export class KnownSessions {
  readonly #prompts: SessionPrompts | undefined;
  readonly #tools: Tools;
  readonly #onExpired: (session: KnownSession) => void;
  readonly #kept = new Map<string, KnownSession>();
  /** The longest unused first. */
  readonly #released = new Map<string, KnownSession>();

  /** `onExpired`: a session's time has passed, which is seen when somebody looks. */
  constructor(
    prompts: SessionPrompts | undefined,
    tools: Tools,
    onExpired: (session: KnownSession) => void,
  ) {
    this.#prompts = prompts;
    this.#tools = tools;
    this.#onExpired = onExpired;
  }

  /** Those that are kept now, of all owners. */
  kept(): readonly KnownSession[] {
    this.#expire();
    return [...this.#kept.values()];
  }

  list(owner: string, named: readonly NamedRequest[]): readonly KnownSession[] {
    const kept = this.kept().filter((session) => session.owner === owner);
    const frozen = new Set(kept.map(({ name }) => name));
    const live = named.flatMap(({ session, request }) =>
      frozen.has(session) ? [] : (this.#live(owner, session, request) ?? []),
    );
    const names = new Set(live.map(({ name }) => name));
    const released = [...this.#released.values()].filter(
      (session) => session.owner === owner && !names.has(session.name),
    );
    return [...kept, ...live, ...released];
  }

  /** As its last request left it, where that is remembered, else as it is or was kept. Throws `not_found`, and `invalid_request` for less than a block. */
  find(owner: string, name: string, request: string | undefined): KnownSession {
    this.#expire();
    const key = keyOf({ owner, name });
    const known = this.#kept.get(key) ?? this.#released.get(key);
    const live = request === undefined ? undefined : this.#live(owner, name, request);
    const session = live === undefined ? known : { ...live, endsAt: known?.endsAt };
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

  /** Throws `invalid_request` where that would be too many, or too many tokens. */
  checkRoom(session: Pick<KnownSession, "owner" | "name" | "tokenIds">): void {
    const others = new Map(this.#kept);
    others.delete(keyOf(session));
    if (others.size >= MOST_KEPT)
      throw new KvEngineError("invalid_request", `at most ${MOST_KEPT} sessions can be kept`, {
        subject: "session",
        hint: "thaw others",
      });
    if (tokensOf(others) + session.tokenIds.length > MOST_TOKENS)
      throw new KvEngineError(
        "invalid_request",
        `sessions of at most ${MOST_TOKENS} tokens together can be kept`,
        { subject: "session", hint: "thaw others" },
      );
  }

  /** In the place of what was known of it. */
  keep(session: KnownSession): void {
    const key = keyOf(session);
    this.#released.delete(key);
    this.#kept.set(key, session);
  }

  /** It is kept no longer, and known as long as there is room. */
  release(session: KnownSession): void {
    const key = keyOf(session);
    this.#kept.delete(key);
    this.#released.delete(key);
    this.#released.set(key, { ...session, endsAt: undefined });
    for (const oldest of this.#released.keys()) {
      const fits =
        this.#released.size <= MOST_RELEASED && tokensOf(this.#released) <= MOST_RELEASED_TOKENS;
      if (fits) break;
      this.#released.delete(oldest);
    }
  }

  #live(owner: string, name: string, request: string): KnownSession | undefined {
    const prompt = this.#prompts?.get(request);
    if (prompt === undefined) return undefined;
    const { keysOf, model } = this.#tools;
    const { cacheSalt, numComputedTokens } = prompt;
    const length = numComputedTokens - (numComputedTokens % model.block_size);
    const tokenIds = prompt.tokenIds.slice(0, length);
    const keys = keysOf(tokenIds, cacheSalt);
    return { name, owner, tokenIds, saltDigest: saltDigest(cacheSalt), keys, endsAt: undefined };
  }

  #expire(): void {
    const now = this.#tools.now();
    for (const [key, session] of this.#kept) {
      if ((session.endsAt ?? Infinity) > now) continue;
      this.#kept.delete(key);
      this.#onExpired(session);
    }
  }
}

function keyOf({ owner, name }: Pick<KnownSession, "owner" | "name">): string {
  return JSON.stringify([owner, name]);
}

function tokensOf(sessions: ReadonlyMap<string, KnownSession>): number {
  let sum = 0;
  for (const { tokenIds } of sessions.values()) sum += tokenIds.length;
  return sum;
}
