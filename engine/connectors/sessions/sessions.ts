/**
 * Sessions: the KV of a conversation under a name. One is frozen (its blocks go to the disk, or to the host's memory where there is
 * none, and are kept there), thawed (they come to the host's memory), written to a file or read from one. The device's blocks are left
 * to their own order of eviction by all of it.
 */

import { createHash } from "node:crypto";
import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import { KvEngineError } from "../../errors.ts";
import { type KnownSession, KnownSessions, type SessionPrompts } from "./known-sessions.ts";
import { exportSession } from "./export-session.ts";
import { importPages } from "./import-session.ts";
import { checkModel, readSessionFile, recordBytes, saltDigest } from "./session-file.ts";
import type { SessionAnswer, SessionFacts, SessionQuery } from "./session-query.ts";
import type { SessionTools } from "./session-tools.ts";

/** Beside its pages, a file has its head. */
const HEAD_ROOM = 128 * 2 ** 20;

export class Sessions {
  readonly #tools: SessionTools;
  readonly #known: KnownSessions;

  /** Without `prompts` only sessions from files are known. */
  constructor(prompts: SessionPrompts | undefined, tools: SessionTools) {
    this.#tools = tools;
    this.#known = new KnownSessions(prompts, tools);
  }

  /** Rejects with what is wrong with the query. */
  async answer(query: SessionQuery): Promise<SessionAnswer> {
    const sessions = await this.#obey(query);
    return {
      sessions: sessions.map((session) => this.#factsOf(session)),
      mostBytes: this.#mostBytes,
    };
  }

  get #mostBytes(): number {
    const { retained, disk, model } = this.#tools;
    const ofDisk = disk?.stats().pinnablePages ?? 0;
    return Math.max(retained.budget, ofDisk) * recordBytes(model) + HEAD_ROOM;
  }

  async #obey(query: SessionQuery): Promise<readonly KnownSession[]> {
    const { owner } = query;
    switch (query.kind) {
      case "list":
        return this.#known.list(owner, query.named);
      case "freeze": {
        const session = this.#known.find(owner, query.session, query.request);
        return [await this.#freeze(session, this.#tools.now() + query.ttlMs)];
      }
      case "thaw": {
        const session = this.#known.find(owner, query.session, query.request);
        const away = session.keys.filter((key) => !this.#tools.isOnDevice(key));
        await this.#bring(away.slice(0, this.#tools.moves.mostPages));
        this.#release(session);
        return [{ ...session, endsAt: undefined }];
      }
      case "export": {
        const session = this.#known.find(owner, query.session, query.request);
        await exportSession(session, query.path, this.#tools);
        return [session];
      }
      case "import":
        return [await this.#import(query)];
    }
  }

  /** Keeps what there is of it; on the disk as far as there is one. */
  async #freeze(session: KnownSession, endsAt: number): Promise<KnownSession> {
    const { disk, diskPins, moves, retained } = this.#tools;
    const frozen = { ...session, endsAt };
    if (disk === undefined) {
      retained.add(pinOf(frozen));
      await this.#bring(frozen.keys);
    } else {
      const { content } = moves.server;
      for (const keys of chunks(frozen.keys, moves.piece)) {
        await moves.until(() => {
          const has = disk.has(keys);
          const missing = keys.filter((_, i) => has[i] !== true);
          const inHost = missing.filter((key) => content.pageOf(key) !== undefined);
          content.keep(inHost);
          const rest = missing.filter((key) => content.pageOf(key) === undefined);
          return inHost.length + content.bring(rest).length;
        });
      }
      diskPins?.add(pinOf(frozen));
    }
    this.#known.keep(frozen);
    return frozen;
  }

  /** To host pages, as far as they are anywhere. */
  async #bring(keys: readonly BlockKey[]): Promise<void> {
    const { moves } = this.#tools;
    const { content } = moves.server;
    await moves.until(
      () => content.bring(keys.filter((key) => content.pageOf(key) === undefined)).length,
    );
  }

  /** It is kept no longer than anything else. */
  #release(session: KnownSession): void {
    const { diskPins, retained } = this.#tools;
    const { id, owner } = pinOf(session);
    retained.remove(id, owner);
    diskPins?.remove(id, owner);
    this.#known.forget(session);
  }

  async #import(query: SessionQuery & { readonly kind: "import" }): Promise<KnownSession> {
    const { model, fingerprint, keysOf, vocabSize, disk, retained, now } = this.#tools;
    const file = await readSessionFile(query.path);
    checkModel(file.head, { ...model, fingerprint: await fingerprint() });
    const { tokenIds, head } = file;
    if (tokenIds.some((id) => id < 0 || id >= vocabSize))
      throw new KvEngineError("invalid_request", "the session has tokens that the model has not", {
        subject: "file",
      });
    if (head.cache_salt_sha256 !== saltDigest(query.cacheSalt)) {
      throw new KvEngineError(
        "invalid_request",
        head.cache_salt_sha256 === null
          ? "the session's requests had no cache_salt, and here they would have one"
          : "the session's requests had another cache_salt, or the API key another cache-salt",
        { subject: "cache_salt", hint: "give the salt that the conversation goes on with" },
      );
    }
    const session: KnownSession = {
      name: query.session ?? head.session,
      owner: query.owner,
      tokenIds,
      cacheSalt: query.cacheSalt,
      keys: keysOf(tokenIds, query.cacheSalt),
      endsAt: undefined,
    };
    const endsAt = now() + query.ttlMs;
    const pin = pinOf({ ...session, endsAt });
    retained.remove(pin.id, pin.owner);
    // What a disk keeps need not stay in host pages.
    if (disk === undefined) retained.add(pin);
    try {
      await importPages(file, session.keys, query.path, this.#tools);
    } catch (thrown) {
      retained.remove(pin.id, pin.owner);
      throw thrown;
    }
    return this.#freeze(session, endsAt);
  }

  #factsOf(session: KnownSession): SessionFacts {
    const { disk, moves, retained, isOnDevice, now } = this.#tools;
    const { keys, endsAt } = session;
    const { content } = moves.server;
    const onDisk = disk?.has(keys) ?? [];
    const isFrozen = endsAt !== undefined && endsAt > now();
    const countOf = (has: (key: BlockKey) => boolean): number => keys.filter(has).length;
    const numOnDisk = onDisk.filter((has) => has).length;
    const inHost = countOf((key) => content.pageOf(key) !== undefined);
    const kept = disk === undefined ? countOf((key) => retained.has(key)) : numOnDisk;
    return {
      name: session.name,
      state: isFrozen ? "frozen" : "live",
      numTokens: session.tokenIds.length,
      numPages: keys.length,
      onDevice: countOf(isOnDevice),
      inHost,
      onDisk: numOnDisk,
      numKept: isFrozen ? kept : 0,
      msLeft: isFrozen ? endsAt - now() : 0,
    };
  }
}

function pinOf({ name, owner, keys, tokenIds, endsAt = 0 }: KnownSession): {
  readonly id: string;
  readonly owner: string;
  readonly keys: readonly BlockKey[];
  readonly numTokens: number;
  readonly endsAt: number;
} {
  // No name of a client's is a pin's id.
  const id = `session-${createHash("sha256")
    .update(JSON.stringify([owner, name]))
    .digest("hex")}`;
  return { id, owner, keys, numTokens: tokenIds.length, endsAt };
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
    list.slice(i * size, (i + 1) * size),
  );
}
