/** A plain model beside an explainer: it forgets nothing, and checks each claim against all that has happened. */

import { expect } from "bun:test";
import type { SequenceBlocks } from "../../engine/cache/kv-cache.ts";
import type { PromptFacts } from "../../engine/explain/facts.ts";
import type { Sequence } from "../../engine/scheduler/sequence.ts";
import { hashBlocks, noneHash } from "../../engine/runner/native.ts";
import type { World } from "./scheduler-world.ts";

type EventKind = "stored" | "evicted" | "reset" | "withdrawn";

/** Something that happened to a block's content. */
interface ContentEvent {
  readonly kind: EventKind;
  /** Hash and group. */
  readonly content: string;
  readonly at: number;
  /** Of `evicted`: number of the request that got the block. */
  readonly by: number;
}

/** A request, and what was the case when it was let in for the first time. */
interface Known {
  readonly sequence: Sequence;
  readonly prompt: readonly number[];
  readonly salt: string | undefined;
  order: number;
  numEvents: number;
  /** Requests that lived then, and what the others had come to. */
  alive: ReadonlySet<Known>;
  tokens: readonly number[];
}

export class ExplainModel {
  readonly #world: World;
  readonly #events: ContentEvent[] = [];
  readonly #requests = new Map<string, Known>();
  readonly #byBlocks = new Map<SequenceBlocks, Known>();
  #taker: SequenceBlocks | undefined;
  #numAdmitted = 0;
  /** Of each cause, how often it was claimed. */
  readonly claims: Map<string, number> = new Map();

  constructor(world: World) {
    this.#world = world;
    const { kv } = world.scheduler;
    const { pool } = kv;
    const note = (kind: EventKind, id: number, by = -1): void => {
      const content = `${pool.hashOf(id)?.join()}:${pool.groupOf(id)}`;
      this.#events.push({ kind, content, at: world.now, by });
    };
    const insert = pool.insert.bind(pool);
    pool.insert = (id, words, at, group, step): void => {
      insert(id, words, at, group, step);
      note("stored", id);
    };
    pool.onEvicted((id) => note("evicted", id, this.#byBlocks.get(this.#taker!)!.sequence.number));
    pool.onUnhashed((id, why) => note(why, id));
    const [take, grow] = [kv.take.bind(kv), kv.grow.bind(kv)];
    kv.take = (blocks, ...rest): ReturnType<typeof take> => {
      this.#taker = blocks;
      return take(blocks, ...rest);
    };
    kv.grow = (blocks, numTokens): boolean => {
      this.#taker = blocks;
      return grow(blocks, numTokens);
    };
    this.#watch();
  }

  /** Checks what is said of a request; answers its facts, undefined where it is forgotten. */
  check(id: string): PromptFacts | undefined {
    const facts = this.#world.explainer!.explain({ id });
    if (facts === undefined) return undefined;
    const request = this.#requests.get(id)!;
    expect(facts.number).toBe(request.sequence.number + 1);
    expect([...facts.tokenIds]).toEqual([...request.prompt]);
    if (facts.state !== "answered") {
      expect(facts.cachedTokens).toBe(0);
      return facts;
    }
    this.#checkRuns(request, facts);
    this.#checkClosest(request, facts);
    this.#checkCause(request, facts);
    this.claims.set(facts.cause, (this.claims.get(facts.cause) ?? 0) + 1);
    return facts;
  }

  #watch(): void {
    const { log } = this.#world.explainer!;
    const [added, admitted] = [log.added.bind(log), log.admitted.bind(log)];
    log.added = (sequence): void => {
      added(sequence);
      const known: Known = {
        sequence,
        prompt: [...sequence.request.promptTokenIds],
        salt: sequence.request.cacheSalt,
        order: Infinity,
        numEvents: 0,
        alive: new Set(),
        tokens: [],
      };
      this.#requests.set(sequence.id, known);
      this.#byBlocks.set(sequence.blocks, known);
    };
    log.admitted = (sequence, found): void => {
      admitted(sequence, found);
      const known = this.#requests.get(sequence.id)!;
      if (known.order < Infinity) return;
      known.order = this.#numAdmitted++;
      known.numEvents = this.#events.length;
      const all = [...this.#requests.values()];
      known.alive = new Set(all.filter((one) => one.sequence.state !== "finished"));
    };
  }

  /** What was computed is what the steps had. */
  #checkRuns({ sequence }: Known, { runs, cachedTokens, hitTokens }: PromptFacts): void {
    const computed = this.#world.computed.get(sequence.handle)!;
    const numTokens = sequence.numPromptTokens;
    let [at, numCached] = [0, 0];
    for (const { start, end, kind } of runs) {
      expect(start).toBe(at);
      for (; at < end; at++) {
        if (kind === "cached") numCached++;
        expect([at, computed.has(at)]).toEqual([at, kind !== "cached"]);
      }
    }
    expect([at, numCached]).toEqual([numTokens, cachedTokens]);
    expect(hitTokens).toBe(computed.size === 0 ? numTokens : Math.min(...computed));
    for (const { start, end, kind } of runs) {
      if (kind !== "evicted" && kind !== "reset" && kind !== "step_failed") continue;
      const size = this.#blockSize;
      for (let block = Math.floor(start / size); block * size < end; block++)
        this.#checkGone(this.#requests.get(sequence.id)!, block, kind);
    }
  }

  /** Nobody that is remembered has more tokens in common. */
  #checkClosest(request: Known, { closest }: PromptFacts): void {
    const common = (other: Known): number => {
      const tokens = this.#tokensThen(request, other);
      let count = 0;
      while (count < tokens.length && tokens[count] === request.prompt[count]) count++;
      return Math.min(count, request.prompt.length);
    };
    const { log } = this.#world.explainer!;
    const others = [...this.#requests.values()].filter(
      (other) =>
        other.order < request.order &&
        other.salt === request.salt &&
        log.get(other.sequence.id) !== undefined,
    );
    const most = Math.max(-1, ...others.map(common));
    expect(closest?.commonTokens ?? -1).toBe(most);
    if (closest === undefined) return;
    const other = this.#requests.get(closest.id)!;
    expect(common(other)).toBe(closest.commonTokens);
    expect(closest.tokenId).toBe(request.prompt[most]);
    expect(closest.otherTokenId).toBe(this.#tokensThen(request, other)[most]);
  }

  #checkCause(request: Known, facts: PromptFacts): void {
    const { cause, closest, isComplete, removal } = facts;
    const size = this.#blockSize;
    const { length } = request.prompt;
    const maxBlocks = Math.floor((length - 1) / size);
    const block = Math.floor(facts.hitTokens / size);
    if (cause === "short_prompt") return expect(maxBlocks).toBe(0);
    if (cause === "none") return expect(block).toBeGreaterThanOrEqual(maxBlocks);
    expect(block).toBeLessThan(maxBlocks);
    const then = this.#isThere(request, block);
    if (cause === "same_step" || cause === "found_and_lost") return expect(then).toBe(true);
    if (cause === "unknown") return;
    if (cause === "load_failed" || cause === "quicker_to_compute") return;
    expect(then).toBe(false);
    const [start, end] = [block * size, (block + 1) * size];
    const wasStored = this.#before(request, block).some(({ kind }) => kind === "stored");
    switch (cause) {
      case "evicted":
      case "reset":
      case "step_failed":
        if (removal === undefined) {
          // After what was computed of an older generation.
          expect(cause).toBe("reset");
          expect(closest!.commonTokens).toBeGreaterThanOrEqual(end);
          return;
        }
        return this.#checkGone(request, block, cause, removal);
      case "never_stored":
        return expect(wasStored).toBe(false);
      case "other_salt": {
        expect([wasStored, request.salt === undefined]).toEqual([false, false]);
        const same = [...this.#requests.values()].filter(({ salt }) => salt === request.salt);
        return expect(Math.min(...same.map(({ order }) => order))).toBe(request.order);
      }
      case "not_computed":
        expect(closest!.commonTokens).toBeGreaterThanOrEqual(end);
        if (isComplete) expect(wasStored).toBe(false);
        return;
      case "differs":
      case "new_tokens":
      case "in_progress":
        return this.#checkParting(request, facts, start, end, wasStored);
      default:
        throw new Error(`${cause} cannot be here`);
    }
  }

  #checkParting(
    request: Known,
    { cause, closest, isComplete }: PromptFacts,
    start: number,
    end: number,
    wasStored: boolean,
  ): void {
    const other = this.#requests.get(closest!.id)!;
    const { commonTokens } = closest!;
    expect(commonTokens).toBeGreaterThanOrEqual(start);
    expect(commonTokens).toBeLessThan(end);
    if (isComplete) expect(wasStored).toBe(false);
    const next = this.#tokensThen(request, other)[commonTokens];
    if (cause === "differs") expect(next).not.toBe(request.prompt[commonTokens]);
    if (cause === "differs") expect(next).toBeDefined();
    if (cause === "in_progress") {
      expect(request.alive.has(other)).toBe(true);
      expect(commonTokens).toBe(other.prompt.length);
    }
    if (cause === "new_tokens")
      expect([other.prompt.length, other.sequence.numTokens]).toContain(commonTokens);
  }

  /** The last thing that happened to the block before was this. */
  #checkGone(
    request: Known,
    block: number,
    cause: "evicted" | "reset" | "step_failed",
    removal?: PromptFacts["removal"],
  ): void {
    const last = this.#before(request, block).at(-1);
    expect(last?.kind).toBe(cause === "step_failed" ? "withdrawn" : cause);
    expect(this.#isThere(request, block)).toBe(false);
    if (removal === undefined || last === undefined) return;
    expect(removal.byRequest ?? 0).toBe(last.by + 1);
    expect(removal.at % 1e6).toBe(last.at % 1e6);
  }

  /** Tokens of another request as far as they count: without its answer while it was being answered. */
  #tokensThen(request: Known, other: Known): readonly number[] {
    if (request.alive.has(other)) return other.prompt;
    return [...other.sequence.tokenIds.subarray(0, other.sequence.numTokens)];
  }

  /** What had happened to a block's content when the request was let in. */
  #before({ prompt, salt, numEvents }: Known, block: number): readonly ContentEvent[] {
    const tokens = Int32Array.from(prompt.slice(0, (block + 1) * this.#blockSize));
    const hashes = hashBlocks(noneHash("0"), tokens, this.#blockSize, salt);
    const content = `${hashes.slice(block * 8, block * 8 + 8).join()}:0`;
    return this.#events.slice(0, numEvents).filter((event) => event.content === content);
  }

  #isThere(request: Known, block: number): boolean {
    const events = this.#before(request, block);
    const numStored = events.filter(({ kind }) => kind === "stored").length;
    return 2 * numStored > events.length;
  }

  get #blockSize(): number {
    return this.#world.scheduler.limits.blockSize;
  }
}
