/** Sessions on native transfers, with a host level that is a plain map and blocks of a witness: for files that are changed on the way. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import type { HostContent } from "../../connectors/host-content.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import { HostPages } from "../../engine/connectors/host-pages.ts";
import { Retained } from "../../engine/connectors/retained.ts";
import { ContentMoves } from "../../engine/connectors/sessions/content-moves.ts";
import { openSessions } from "../../engine/connectors/sessions/open-sessions.ts";
import type { Sessions } from "../../engine/connectors/sessions/sessions.ts";
import { hashBlocks, noneHash } from "../../engine/runner/native.ts";
import { BLOCK_SIZE, fillRow, type TransferLab, VOCAB_SIZE } from "./transfer-lab.ts";

/** Pages of one connector: what is ready, and what is being filled. */
class MapHost implements HostContent {
  readonly pages: HostPages;
  readonly ready: Map<BlockKey, number> = new Map();
  readonly #filling = new Map<BlockKey, number>();

  /** `numReady`: of the pool, which may still grow. */
  constructor(numPages: number, numReady: () => number) {
    this.pages = new HostPages(numPages, numReady);
  }

  pageOf(key: BlockKey): number | undefined {
    return this.ready.get(key);
  }

  bring(): readonly BlockKey[] {
    return [];
  }

  keep(): void {}

  take(keys: readonly BlockKey[]): readonly number[] {
    const pages = this.pages.alloc(0, Math.min(keys.length, this.pages.numFree)) ?? [];
    for (const [i, page] of pages.entries()) this.#filling.set(keys[i] as BlockKey, page);
    return pages;
  }

  filled(keys: readonly BlockKey[]): void {
    for (const key of keys) {
      this.ready.set(key, this.#filling.get(key) as number);
      this.#filling.delete(key);
    }
  }

  drop(key: BlockKey): void {
    const page = this.#filling.get(key) ?? this.ready.get(key);
    if (page !== undefined) this.pages.free(0, [page]);
    this.#filling.delete(key);
    this.ready.delete(key);
  }

  get numFilling(): number {
    return this.#filling.size;
  }
}

/** Results are kept by the laboratory: no two flights in it have one id. */
let nextFlight = 1;

export interface SessionLabOptions {
  readonly fingerprint?: string;
  /** Pages that sessions may keep. */
  readonly budget?: number;
  readonly hostPages?: number;
  readonly modelName?: string;
  /** Host pages that are ready at first, until `grow`; left out = all of them. */
  readonly readyPages?: number;
}

export class SessionLab {
  readonly host: MapHost;
  readonly sessions: Sessions;
  readonly retained: Retained;
  readonly #lab: TransferLab;
  readonly #moves: ContentMoves;
  #numReady: number;
  readonly #prompts = new Map<
    string,
    { tokenIds: Int32Array; numComputedTokens: number; cacheSalt: string | undefined }
  >();
  /** Milliseconds of the clock. */
  now: number = 0;

  constructor(lab: TransferLab, options: SessionLabOptions = {}) {
    const { hostPages = 32, budget = 32, fingerprint = '{"weights":["a"]}' } = options;
    this.#lab = lab;
    this.#numReady = options.readyPages ?? hostPages;
    this.host = new MapHost(hostPages, () => this.#numReady);
    this.retained = new Retained(budget, () => this.now);
    const beginOther = (
      begin: (id: number) => void,
      onEnded: (result: Awaited<ReturnType<TransferLab["result"]>>) => void,
    ): number => {
      const id = nextFlight++;
      begin(id);
      void lab.result(id).then(onEnded);
      return id;
    };
    this.#moves = new ContentMoves(
      {
        ...{ transfers: lab.transfers, flights: { beginOther }, pages: this.host.pages },
        isGrowing: () => this.#numReady < hostPages,
      },
      () => this.now,
      () => queueMicrotask(() => this.#moves.work()),
    );
    this.#moves.serve(0, this.host, () => true);
    this.sessions = openSessions(this.#prompts, {
      moves: this.#moves,
      retained: this.retained,
      pool: { find: () => 0 },
      info: {
        modelName: options.modelName ?? "witness",
        pageLayout: "witness",
        kvCacheDtype: "",
        blockSize: BLOCK_SIZE,
        vocabSize: VOCAB_SIZE,
        numGroups: 1,
        pageBytes: lab.transfers.pageBytes,
      },
      fingerprint: async () => fingerprint,
      hashes: (tokenIds, cacheSalt) => hashBlocks(noneHash("0"), tokenIds, BLOCK_SIZE, cacheSalt),
      now: () => this.now,
      epochMs: () => 1_700_000_000_000 + this.now,
    });
  }

  keysOf(tokenIds: Int32Array, cacheSalt?: string): readonly BlockKey[] {
    const hashes = hashBlocks(noneHash("0"), tokenIds, BLOCK_SIZE, cacheSalt);
    return Array.from({ length: hashes.length / 8 }, (_, block) => blockKey(hashes, block * 8, 0));
  }

  /** A request that is remembered and whose full blocks are in host pages, computed by the witness. */
  async served(request: string, tokens: readonly number[], cacheSalt?: string): Promise<void> {
    const tokenIds = Int32Array.from(tokens);
    this.#prompts.set(request, { tokenIds, numComputedTokens: tokens.length, cacheSalt });
    const keys = this.keysOf(
      tokenIds.slice(0, tokens.length - (tokens.length % BLOCK_SIZE)),
      cacheSalt,
    );
    if (keys.length === 0) return;
    const blocks = keys.map((_, i) => i + 1);
    await this.#lab.step(fillRow(0, tokens.slice(0, keys.length * BLOCK_SIZE), [blocks]));
    const pages = this.host.take(keys);
    const id = nextFlight++;
    this.#lab.transfers.store(id, Int32Array.from(blocks), Int32Array.from(pages), -1);
    await this.#lab.result(id);
    for (const [i, key] of keys.entries()) this.host.pages.setKey(pages[i] as number, key);
    this.host.filled(keys);
  }

  /** The bytes of each key's page; undefined where there is none. */
  async bytesOf(keys: readonly BlockKey[]): Promise<readonly (Uint8Array | undefined)[]> {
    const { transfers } = this.#lab;
    const all: (Uint8Array | undefined)[] = [];
    for (const key of keys) {
      const page = this.host.pageOf(key);
      if (page === undefined) {
        all.push(undefined);
        continue;
      }
      const copy = new Uint8Array(transfers.copyBytes);
      const [code] = await transfers.copyOut(Int32Array.of(page), [key], 1, [copy]);
      if (code !== "") throw new Error(`page ${page}: ${code}`);
      all.push(copy.slice(0, transfers.pageBytes));
    }
    return all;
  }

  /** The pool has grown to so many pages. */
  grow(numReady: number): void {
    this.#numReady = numReady;
    this.#moves.work();
  }

  /** Everything in the host's pages is gone. */
  forget(): void {
    for (const key of [...this.host.ready.keys()]) this.host.drop(key);
  }
}
