/**
 * Sessions: the KV of a conversation under a name. One is frozen (its blocks go to the disk, or to the host's memory where there is
 * none, and are kept there), thawed (they come to the host's memory), written to a file or read from one. The device's blocks are left
 * to their own order of eviction by all of it. What is frozen on a disk is known again after a restart.
 */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import { KvEngineError } from "../../errors.ts";
import { exportSession } from "./export-session.ts";
import { importPages } from "./import-session.ts";
import { type KnownSession, KnownSessions, type SessionPrompts } from "./known-sessions.ts";
import { checkModel, readSessionFile, recordBytes, saltDigest } from "./session-file.ts";
import { pinOf, recordOf, sessionOf } from "./session-forms.ts";
import type { SessionAnswer, SessionFacts, SessionQuery } from "./session-query.ts";
import { type KeyPlaces, numFoundBlocks, placesOf } from "./session-places.ts";
import { type KeptNumbers, SessionCounts } from "./session-series.ts";
import type { SessionTools } from "./session-tools.ts";

/** Beside its pages, a file has its head. */
const HEAD_ROOM = 128 * 2 ** 20;
/** Blocks that are brought to the host together: what is missing of them is looked up again in each step. */
const BROUGHT_AT_ONCE = 512;

export class Sessions {
  readonly counts: SessionCounts = new SessionCounts();
  readonly #tools: SessionTools;
  readonly #known: KnownSessions;

  /** Without `prompts` only sessions from files, and those of before a restart, are known. */
  constructor(prompts: SessionPrompts | undefined, tools: SessionTools) {
    this.#tools = tools;
    this.#known = new KnownSessions(prompts, tools, (session) => this.#unrecord(session));
    for (const record of tools.records?.found ?? []) {
      const session = sessionOf(record, tools);
      this.#known.keep(session);
      tools.diskPins?.add(pinOf(session));
    }
  }

  /** Rejects with what is wrong with the query. */
  async answer(query: SessionQuery): Promise<SessionAnswer> {
    const move = query.kind === "list" || query.kind === "room" ? undefined : query.kind;
    try {
      const sessions = await this.#obey(query);
      if (move !== undefined) this.counts.moved(move, "ok");
      return {
        sessions: sessions.map((session) => this.#factsOf(session)),
        mostBytes: this.#mostBytes,
      };
    } catch (thrown) {
      if (move !== undefined) this.counts.moved(move, "failed");
      throw thrown;
    }
  }

  /** Of all owners. What several sessions share counts in each. */
  kept(): KeptNumbers {
    const { model } = this.#tools;
    const sessions = this.#known.kept();
    const first = sessions.flatMap(({ keys }) => keys.slice(0, model.groups));
    const found = placesOf(first, this.#tools).map(({ isAnywhere }) => isAnywhere);
    const gone = sessions.filter(
      (_, i) => !found.slice(i * model.groups, (i + 1) * model.groups).includes(true),
    );
    const sum = (of: (session: KnownSession) => number): number =>
      sessions.reduce((total, session) => total + of(session), 0);
    return {
      frozen: sessions.length - gone.length,
      gone: gone.length,
      tokens: sum(({ tokenIds }) => tokenIds.length),
      bytes: sum(({ keys }) => keys.length) * model.page_bytes,
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
      case "room":
        return [];
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
        await this.#release(session);
        return [{ ...session, endsAt: undefined }];
      }
      case "export": {
        const session = this.#known.find(owner, query.session, query.request);
        this.counts.filed("export", await exportSession(session, query.path, this.#tools));
        return [session];
      }
      case "import":
        return [await this.#import(query)];
    }
  }

  /** Keeps what there is of it; on the disk as far as there is one. */
  async #freeze(session: KnownSession, endsAt: number): Promise<KnownSession> {
    const { disk, moves, records, retained } = this.#tools;
    const frozen = { ...session, endsAt };
    this.#known.checkRoom(frozen);
    if (disk === undefined) {
      retained.add(pinOf(frozen));
      await this.#bring(frozen.keys);
    } else {
      const { content } = moves.server;
      for (const keys of chunks(frozen.keys, moves.piece)) {
        const numMissing = await moves.until(() => {
          const has = disk.has(keys);
          const missing = keys.filter((_, i) => has[i] !== true);
          const inHost = missing.filter((key) => content.pageOf(key) !== undefined);
          content.keep(inHost);
          const rest = missing.filter((key) => content.pageOf(key) === undefined);
          return inHost.length + content.bring(rest).length;
        });
        // The disk takes no more: the next ones would wait as long, and in vain.
        if (numMissing > 0) break;
      }
      await this.#pinOnDisk(frozen);
    }
    this.#known.keep(frozen);
    await records?.put(recordOf(frozen, this.#tools));
    return frozen;
  }

  /** What is being written is pinned when it is there: a freeze has ended when all is kept that may be. */
  async #pinOnDisk(session: KnownSession): Promise<void> {
    const { disk, diskPins, moves } = this.#tools;
    if (disk === undefined || diskPins === undefined) return;
    diskPins.add(pinOf(session));
    const isWaiting = (key: BlockKey): boolean => !diskPins.isKept(key);
    let waiting = session.keys;
    await moves.until(() => {
      const { pinnedPages, pinnablePages } = disk.stats();
      if (pinnedPages >= pinnablePages) return 0;
      const has = disk.has(waiting);
      const there = waiting.filter((key, i) => has[i] === true && isWaiting(key));
      diskPins.stored(there);
      waiting = there.filter(isWaiting);
      return waiting.length;
    });
  }

  /** To host pages, as far as they are anywhere. */
  async #bring(keys: readonly BlockKey[]): Promise<void> {
    const { moves } = this.#tools;
    const { content } = moves.server;
    for (const some of chunks(keys, BROUGHT_AT_ONCE)) {
      const numMissing = await moves.until(
        () => content.bring(some.filter((key) => content.pageOf(key) === undefined)).length,
      );
      if (numMissing > 0) return;
    }
  }

  /** It is kept no longer than anything else. */
  async #release(session: KnownSession): Promise<void> {
    const { diskPins, records, retained } = this.#tools;
    const { id, owner } = pinOf(session);
    retained.remove(id, owner);
    diskPins?.remove(id, owner);
    this.#known.release(session);
    await records?.remove(session);
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
      saltDigest: head.cache_salt_sha256,
      keys: keysOf(tokenIds, query.cacheSalt),
      endsAt: undefined,
    };
    this.#known.checkRoom(session);
    const endsAt = now() + query.ttlMs;
    const pin = pinOf({ ...session, endsAt });
    // What a disk keeps need not stay in host pages.
    if (disk === undefined) retained.add(pin);
    try {
      await importPages(file, session.keys, query.path, this.#tools);
    } catch (thrown) {
      retained.remove(pin.id, pin.owner);
      throw thrown;
    }
    this.counts.filed("import", head.pages_at + file.indices.length * recordBytes(head));
    return this.#freeze(session, endsAt);
  }

  /** Its time is over. Nobody waits for what the folder says of it. */
  #unrecord(session: KnownSession): void {
    void this.#tools.records?.remove(session);
  }

  #factsOf(session: KnownSession): SessionFacts {
    const { disk, diskPins, retained, records, model, now } = this.#tools;
    const { keys, endsAt } = session;
    const places = placesOf(keys, this.#tools);
    const countOf = (is: (place: KeyPlaces) => boolean): number => places.filter(is).length;
    const isFrozen = endsAt !== undefined && endsAt > now();
    const isKept = ({ key, isOnDisk, isAnywhere }: KeyPlaces): boolean =>
      disk === undefined
        ? isAnywhere && retained.has(key)
        : isOnDisk && diskPins?.isKept(key) === true;
    const numFound = numFoundBlocks(places, model.groups) * model.block_size;
    return {
      name: session.name,
      state: numFound === 0 ? "gone" : isFrozen ? "frozen" : "live",
      numTokens: session.tokenIds.length,
      numFoundTokens: numFound,
      numPages: keys.length,
      onDevice: countOf(({ isOnDevice }) => isOnDevice),
      inHost: countOf(({ isInHost }) => isInHost),
      onDisk: countOf(({ isOnDisk }) => isOnDisk),
      numKept: isFrozen ? countOf(isKept) : 0,
      msLeft: isFrozen ? endsAt - now() : 0,
      survivesRestart: isFrozen && records?.has(session) === true,
    };
  }
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
    list.slice(i * size, (i + 1) * size),
  );
}
