/** Sessions over a device, a host and a disk that are sets of keys, through restarts: what is known of sessions, and where it is kept. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import type { HostContent } from "../../connectors/host-content.ts";
import { HASH_WORDS } from "../../engine/cache/block-hash.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import { type BlockPool, NULL_BLOCK } from "../../engine/cache/block-pool.ts";
import type { DiskStats } from "../../engine/cache/disk-store.ts";
import { DiskPins } from "../../engine/connectors/disk-pins.ts";
import { HostPages } from "../../engine/connectors/host-pages.ts";
import { Retained } from "../../engine/connectors/retained.ts";
import { ContentMoves } from "../../engine/connectors/sessions/content-moves.ts";
import { openSessions } from "../../engine/connectors/sessions/open-sessions.ts";
import { SessionFolder } from "../../engine/connectors/sessions/session-folder.ts";
import type {
  SessionAnswer,
  SessionFacts,
  SessionQuery,
} from "../../engine/connectors/sessions/session-query.ts";
import type { Sessions } from "../../engine/connectors/sessions/sessions.ts";
import { hashBlocks, noneHash } from "../../engine/runner/native.ts";

const BLOCK_SIZE = 4;
const HOST_PAGES = 64;
const WRITE_LOOKS = 3;
const EPOCH_MS = 1_700_000_000_000;
const MODEL = "1".repeat(64);

const DISK_STATS: DiskStats = {
  ...{ bytes: 0, limitBytes: 0, staleBytes: 0, pages: 0, pinnedPages: 0, keptPages: 0 },
  ...{ pinnablePages: Number.MAX_SAFE_INTEGER, hits: 0, misses: 0, stored: 0, evicted: 0 },
  ...{ expired: 0, failures: {}, readBytes: 0, writtenBytes: 0, readSeconds: 0, writeSeconds: 0 },
  ...{ isReadOnly: false, trouble: undefined },
};

export interface SessionWorldOptions {
  readonly folder: string;
  readonly numGroups?: number;
  readonly model?: string;
  readonly maxBytes?: number;
  readonly maxRecords?: number;
  readonly isReadOnly?: boolean;
  readonly pinnablePages?: number;
}

export class SessionWorld {
  /** Content of each place. */
  readonly device: Set<BlockKey> = new Set();
  readonly host: Set<BlockKey> = new Set();
  readonly disk: Set<BlockKey> = new Set();
  /** Being written to the disk, which is seen to have them: looks until it does, and they can be pinned. */
  readonly #writing = new Map<BlockKey, number>();
  /** Seconds since 1970 until which the disk keeps pages. */
  readonly pins: Map<BlockKey, number> = new Map();
  readonly log: string[] = [];
  /** Milliseconds since the first start: the clock of processes, and that of the world. */
  now: number = 0;
  sessions!: Sessions;
  folder!: SessionFolder;
  readonly #options: SessionWorldOptions;
  #prompts = new Map<
    string,
    { tokenIds: Int32Array; numComputedTokens: number; cacheSalt: string | undefined }
  >();
  /** Of this process. */
  #bootedAt = 0;

  private constructor(options: SessionWorldOptions) {
    this.#options = options;
  }

  static async create(options: SessionWorldOptions): Promise<SessionWorld> {
    const world = new SessionWorld(options);
    await world.restart();
    return world;
  }

  /** The process ends, however it does, and another one opens the folder. */
  async restart(): Promise<void> {
    const { numGroups = 1, model = MODEL, pinnablePages = Infinity } = this.#options;
    const { maxBytes = 2 ** 20, maxRecords = 64, isReadOnly = false } = this.#options;
    this.device.clear();
    this.host.clear();
    this.#prompts = new Map();
    this.#writing.clear();
    this.#bootedAt = this.now;
    const now = (): number => this.now - this.#bootedAt;
    const epochMs = (): number => EPOCH_MS + this.now;
    const vocabSize = 1000;
    this.folder = await SessionFolder.open({
      ...{ path: this.#options.folder, model, blockSize: BLOCK_SIZE, vocabSize },
      ...{ maxBytes, maxRecords, isReadOnly, epochMs },
      log: (_, message) => this.log.push(message),
    });
    const never = (): never => {
      throw new Error("nothing is moved to or from files here");
    };
    const moves = new ContentMoves(
      {
        transfers: { writePages: never, readPages: never },
        flights: { beginOther: never },
        pages: new HostPages(HOST_PAGES, () => HOST_PAGES),
        isGrowing: () => false,
      },
      now,
      () => queueMicrotask(work),
    );
    // As the scheduler does: again and again as long as something is to come.
    const work = (): void => {
      moves.work();
      if (moves.nextDeadline < Infinity) queueMicrotask(work);
    };
    moves.serve(0, this.#content(), () => true);
    const disk = {
      has: (keys: readonly BlockKey[]) => keys.map((key) => this.#look(key)),
      stats: () => ({ ...DISK_STATS, pinnedPages: this.pins.size, pinnablePages }),
      pin: (keys: readonly BlockKey[], until: number): boolean[] =>
        keys.map((key) => this.#pin(key, until, pinnablePages)),
      unpin: (keys: readonly BlockKey[]): number =>
        keys.filter((key) => this.pins.delete(key)).length,
    };
    // A pool that has what the set has: blocks are named by nothing but their keys.
    const find = (words: Int32Array, at: number, group: number): number =>
      this.device.has(blockKey(words, at, group)) ? 1 : NULL_BLOCK;
    this.sessions = openSessions(this.#prompts, {
      ...{ moves, disk, now, epochMs, records: this.folder },
      pool: { find } satisfies Pick<BlockPool, "find">,
      retained: new Retained(HOST_PAGES, now),
      diskPins: new DiskPins(disk, now, epochMs),
      info: {
        ...{ modelName: "sets", pageLayout: "none", kvCacheDtype: "", pageBytes: 100 },
        ...{ blockSize: BLOCK_SIZE, vocabSize, numGroups },
      },
      fingerprint: async () => "{}",
      hashes: (tokenIds, salt) => hashBlocks(noneHash("0"), tokenIds, BLOCK_SIZE, salt),
    });
  }

  /** A request that is remembered; its blocks are on the device. Answers their keys. */
  serve(request: string, tokens: readonly number[], cacheSalt?: string): readonly BlockKey[] {
    const tokenIds = Int32Array.from(tokens);
    this.#prompts.set(request, { tokenIds, numComputedTokens: tokens.length, cacheSalt });
    const keys = this.keysOf(tokens, cacheSalt);
    for (const key of keys) this.device.add(key);
    return keys;
  }

  keysOf(tokens: readonly number[], cacheSalt?: string): readonly BlockKey[] {
    const { numGroups = 1 } = this.#options;
    const full = Int32Array.from(tokens.slice(0, tokens.length - (tokens.length % BLOCK_SIZE)));
    const hashes = hashBlocks(noneHash("0"), full, BLOCK_SIZE, cacheSalt);
    return Array.from({ length: (hashes.length / HASH_WORDS) * numGroups }, (_, i) =>
      blockKey(hashes, Math.floor(i / numGroups) * HASH_WORDS, i % numGroups),
    );
  }

  /** Others come, and all goes that nobody keeps. */
  evict(): void {
    this.device.clear();
    this.host.clear();
    for (const key of this.disk)
      if ((this.pins.get(key) ?? 0) * 1000 <= EPOCH_MS + this.now) this.disk.delete(key);
  }

  ask(query: SessionQuery): Promise<SessionAnswer> {
    return this.sessions.answer(query);
  }

  async list(owner = ""): Promise<readonly SessionFacts[]> {
    return (await this.ask({ kind: "list", owner, named: [] })).sessions;
  }

  /** Leading blocks of these keys that are anywhere. */
  numFound(keys: readonly BlockKey[]): number {
    const { numGroups = 1 } = this.#options;
    const isThere = (key: BlockKey): boolean =>
      this.device.has(key) || this.host.has(key) || this.disk.has(key);
    let found = 0;
    while (keys.slice(found * numGroups, (found + 1) * numGroups).some(isThere)) found++;
    return found * BLOCK_SIZE;
  }

  #look(key: BlockKey): boolean {
    const looks = this.#writing.get(key);
    if (looks === undefined) return this.disk.has(key);
    this.#writing.set(key, looks - 1);
    if (looks === 0 && this.#writing.delete(key)) this.disk.add(key);
    return true;
  }

  #pin(key: BlockKey, until: number, most: number): boolean {
    const may = this.disk.has(key) && (this.pins.has(key) || this.pins.size < most);
    if (may) this.pins.set(key, until);
    return may;
  }

  #content(): HostContent {
    return {
      pageOf: (key) => (this.host.has(key) ? 0 : undefined),
      bring: (keys) => {
        const coming = keys.filter((key) => this.device.has(key) || this.disk.has(key));
        for (const key of coming) this.host.add(key);
        return coming;
      },
      keep: (keys) => {
        for (const key of keys) this.#writing.set(key, WRITE_LOOKS);
      },
      take: () => [],
      filled: () => undefined,
      drop: () => undefined,
    };
  }
}
