/** What is under way to bring content somewhere, outside of requests: looked at whenever the scheduler is, until all has come. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import type { HostContent } from "../../../connectors/host-content.ts";
import { KvEngineError } from "../../errors.ts";
import { type ArchiveTools, PageArchive } from "./page-archive.ts";

/** Of the host's pages: others are in use. */
const HOST_SHARE = 0.5;
const MOST_PIECE = 32;
/** Milliseconds without any progress after which what has not come is given up. */
const PATIENCE_MS = 5_000;
/** Milliseconds until it is looked at again although nothing was reported. */
const LOOK_MS = 50;

interface Move {
  /** Goes on; answers how much is still to come. */
  readonly work: () => number;
  readonly settle: PromiseWithResolvers<number>;
  left: number;
  /** When it is given up, unless something comes. */
  until: number;
}

/** The connector that has host pages, by its place. */
export interface Server {
  readonly place: number;
  readonly content: HostContent;
}

export class ContentMoves {
  /** Where pages are written and read. */
  readonly archive: PageArchive;
  /** Pages that may be brought to the host at a time without driving each other out, and in one piece of a longer move. */
  readonly mostPages: number;
  readonly piece: number;
  readonly #tools: ArchiveTools;
  readonly #now: () => number;
  readonly #wake: () => void;
  readonly #moves = new Set<Move>();
  #servers: readonly (Server & { readonly isEnabled: () => boolean })[] = [];

  /** `now`: milliseconds, monotonic. `wake`: asks for `work` to be called; left out = it is called often enough. */
  constructor(tools: ArchiveTools, now: () => number, wake: () => void = (): void => undefined) {
    this.archive = new PageArchive(tools);
    this.mostPages = Math.max(1, Math.floor(tools.pages.numPages * HOST_SHARE));
    this.piece = Math.min(this.mostPages, MOST_PIECE);
    this.#tools = tools;
    this.#now = now;
    this.#wake = wake;
  }

  serve(place: number, content: HostContent, isEnabled: () => boolean): void {
    this.#servers = [...this.#servers, { place, content, isEnabled }];
  }

  /** The first that there is. Throws `unsupported` where there is none. */
  get server(): Server {
    const server = this.#servers.find(({ isEnabled }) => isEnabled());
    if (server !== undefined) return server;
    throw new KvEngineError("unsupported", "no KV connector keeps pages in the host's memory", {
      hint: "start the server with --kv-connector cpu-offload",
    });
  }

  isInHost(key: BlockKey): boolean {
    return this.#servers.some((one) => one.isEnabled() && one.content.pageOf(key) !== undefined);
  }

  /** Calls `work` until nothing is to come, or nothing has come for a while. Answers what is left; rejects with what `work` throws. */
  until(work: () => number): Promise<number> {
    const settle = Promise.withResolvers<number>();
    this.#moves.add({ work, settle, left: Infinity, until: this.#now() + PATIENCE_MS });
    this.#wake();
    return settle.promise;
  }

  /** Whether a host page is free that was not: waits for one as long as the pool grows, as it does after the start. */
  async hasGrown(): Promise<boolean> {
    const { pages, isGrowing } = this.#tools;
    if (!isGrowing()) return false;
    await this.until(() => (pages.numFree === 0 && isGrowing() ? 1 : 0));
    return pages.numFree > 0;
  }

  /** When `work` is to be called although nothing was reported; Infinity = never. */
  get nextDeadline(): number {
    return this.#moves.size === 0 ? Infinity : this.#now() + LOOK_MS;
  }

  work(): void {
    if (this.#moves.size === 0) return;
    const now = this.#now();
    for (const move of this.#moves) {
      try {
        const left = move.work();
        if (left < move.left) move.until = now + PATIENCE_MS;
        move.left = Math.min(left, move.left);
        if (left > 0 && now < move.until) continue;
        move.settle.resolve(left);
      } catch (thrown) {
        move.settle.reject(thrown);
      }
      this.#moves.delete(move);
    }
  }

  /** Nothing will come any more. */
  close(): void {
    for (const { settle } of this.#moves)
      settle.reject(new KvEngineError("unavailable", "the engine is stopping"));
    this.#moves.clear();
  }
}
