/** The KV cache beside a model of arrays, under commands of any kind in any order. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { HASH_WORDS } from "../../../engine/cache/block-hash.ts";
import { type GroupSpec, KvCache, type SequenceBlocks } from "../../../engine/cache/kv-cache.ts";
import { FULL, hashNumber, STATE, windowOf } from "../../support/cached-sequence.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";
import { CacheModel, type ModelSequence } from "./cache-model.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const numbers = new Map<string, number>();

/** A hash that stands for a content; equal contents have equal hashes. */
function hashOf(content: string): Int32Array {
  if (!numbers.has(content)) numbers.set(content, numbers.size);
  return hashNumber(numbers.get(content)!);
}

const group: fc.Arbitrary<GroupSpec> = fc.oneof(
  fc.constant(FULL),
  fc.integer({ min: 1, max: 9 }).map(windowOf),
  fc.constant(STATE),
);

const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("admit" as const),
      contents: fc.array(fc.nat(1), { minLength: 1, maxLength: 8 }),
      most: fc.integer({ min: 0, max: 9 }),
      islands: fc.nat(8),
      /** A sequence that had blocks before, as after preemption. */
      again: fc.boolean(),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("compute" as const),
      pick: fc.nat(),
      tokens: fc.integer({ min: 1, max: 12 }),
      slides: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("release" as const), pick: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("withdraw" as const),
      pick: fc.nat(),
      ago: fc.nat(4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("fork" as const), pick: fc.nat(), back: fc.nat(5) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("copied" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("fly" as const), first: fc.nat(), count: fc.nat(6) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("land" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const), now: fc.nat(3) }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

interface Pair {
  readonly real: SequenceBlocks;
  readonly model: ModelSequence;
}

/** The real cache and the model, side by side. */
class Both {
  readonly cache: KvCache;
  readonly model: CacheModel;
  readonly pairs: Pair[] = [];
  /** Released, to be admitted again. */
  readonly idle: Pair[] = [];
  readonly copySources: number[] = [];
  readonly #flights: number[][] = [];
  #step = 0;

  constructor(numBlocks: number, blockSize: number, groups: readonly GroupSpec[]) {
    this.cache = new KvCache({ numBlocks, blockSize, groups, prefixCaching: true });
    this.model = new CacheModel(numBlocks, blockSize, groups);
  }

  do(command: Command): void {
    this.#step++;
    if (command.kind === "admit") this.#admit(command);
    else if (command.kind === "copied") this.#copied();
    else if (command.kind === "reset") this.#reset(command.now === 0);
    else if (command.kind === "fly") this.#fly(command.first, command.count);
    else if (command.kind === "land") this.#land();
    else if (this.pairs.length > 0) {
      const index = command.pick % this.pairs.length;
      const pair = this.pairs[index]!;
      if (command.kind === "compute") this.#compute(pair, command.tokens, command.slides);
      else if (command.kind === "release") this.#release(index);
      else if (command.kind === "fork") this.#fork(pair, command.back);
      else this.#withdraw(index, command.ago);
    }
    this.#compare();
  }

  #create(contents: readonly string[]): Pair {
    const real = this.cache.createBlocks();
    for (const content of contents) real.appendHashes(hashOf(content));
    return { real, model: this.model.create(contents) };
  }

  #admit({ contents, most, islands, again }: Extract<Command, { kind: "admit" }>): void {
    const fresh = contents.map((_, block) => contents.slice(0, block + 1).join(" "));
    const pair = (again ? this.idle.pop() : undefined) ?? this.#create(fresh);
    const prefixes = pair.model.contents;
    const expected = this.model.match(prefixes, most);
    const match = this.cache.match(pair.real, most);
    const ids = [expected.islands, [...Array(expected.numBlocks).keys()]]
      .flat()
      .flatMap((block) => expected.found.map((found) => found[block]!))
      .filter((id) => id !== 0);
    const blocks = ids.map((id) => this.model.pool.block(id));
    const { numBlocks, numIslands, islandEnd, newestStep, numFreeHits } = match;
    expect({ numBlocks, numIslands, islandEnd, newestStep, numFreeHits }).toEqual({
      numBlocks: expected.numBlocks,
      numIslands: expected.islands.length,
      islandEnd: (expected.islands.at(-1) ?? -1) + 1,
      newestStep: Math.max(-1, ...blocks.map(({ step }) => step)),
      numFreeHits: blocks.filter(({ references, flights }) => references === 0 && flights === 0)
        .length,
    });
    for (const [group, found] of match.found.entries()) {
      const end = Math.max(match.numBlocks, match.islandEnd);
      expect([...found.subarray(0, end)]).toEqual(expected.found[group]!.slice(0, end));
    }
    while (match.numIslands > islands) match.dropLastIsland(this.cache.pool);
    const kept = expected.islands.slice(0, match.numIslands);
    this.cache.take(pair.real, match);
    this.model.take(pair.model, expected, kept);
    this.pairs.push(pair);
  }

  #compute({ real, model }: Pair, tokens: number, slides: boolean): void {
    const { blockSize } = this.cache;
    const start = model.computed;
    const isPresent = (block: number): boolean => model.present[block] === true;
    let island = Math.ceil(start / blockSize);
    while (island < model.present.length && !isPresent(island)) island++;
    const limit = island < model.present.length ? island * blockSize : Infinity;
    expect(this.cache.missingEnd(real, start)).toBe(limit);
    let end = Math.min(start + tokens, limit, (model.contents.length + 1) * blockSize);
    expect(this.cache.growth(real, end)).toBe(this.model.growth(model, end));
    const grown = this.model.grow(model, end);
    expect(this.cache.grow(real, end)).toBe(grown);
    if (!grown) return;
    this.cache.markPresent(real, end);
    this.cache.publish(real, end, this.#step);
    this.model.compute(model, end, this.#step);
    const presentEnd = this.cache.presentEnd(real, end);
    for (let block = end / blockSize; Number.isInteger(block) && isPresent(block); block++)
      end += blockSize;
    expect(presentEnd).toBe(end);
    model.computed = end;
    if (!slides) return;
    this.cache.slide(real, end);
    this.model.slide(model, end);
  }

  #release(index: number): void {
    const [pair] = this.pairs.splice(index, 1);
    this.cache.release(pair!.real);
    this.model.release(pair!.model);
    this.idle.push(pair!);
  }

  /** A failed step: what it published is taken back, and its sequence ends. */
  #withdraw(index: number, ago: number): void {
    const { real, model } = this.pairs[index]!;
    const step = Math.max(0, this.#step - ago);
    expect([...this.cache.withdraw(real, step)]).toEqual(this.model.withdraw(model, step));
    this.#release(index);
  }

  #fork({ real, model }: Pair, back: number): void {
    const numTokens = Math.max(1, model.computed - back);
    const choice = this.#create(model.contents);
    const copies: number[] = [];
    const expected = this.model.fork(model, choice.model, numTokens);
    expect(this.cache.fork(real, choice.real, numTokens, copies)).toBe(expected !== undefined);
    expect(copies).toEqual(expected ?? []);
    if (expected === undefined) return;
    for (let i = 0; i < copies.length; i += 2) this.copySources.push(copies[i]!);
    this.pairs.push(choice);
  }

  #copied(): void {
    const sources = this.copySources.splice(0);
    this.cache.pool.free(Int32Array.from(sources), sources.length);
    this.model.pool.drop(sources);
  }

  #fly(first: number, count: number): void {
    const { numBlocks } = this.cache.pool;
    const ids = Array.from({ length: count }, (_, i) => 1 + ((first + i) % (numBlocks - 1)));
    this.cache.pool.beginFlight(Int32Array.from(ids), ids.length);
    this.model.pool.fly(ids, 1);
    this.#flights.push(ids);
  }

  #land(): void {
    const ids = this.#flights.shift() ?? [];
    this.cache.pool.endFlight(Int32Array.from(ids), ids.length);
    this.model.pool.fly(ids, -1);
  }

  #reset(now: boolean): void {
    if (!now) return;
    this.cache.reset();
    this.model.reset();
  }

  #compare(): void {
    const { cache, model } = this;
    cache.checkIntegrity(
      this.pairs.map(({ real }) => real),
      this.copySources,
    );
    expect(cache.pool.freeIds()).toEqual(model.pool.queue);
    expect(cache.pool.numFree).toBe(model.pool.free.length);
    expect(cache.generation).toBe(model.generation);
    for (const [id, block] of model.pool.blocks.entries()) {
      if (id === 0) continue;
      const { key, references, generation } = block;
      const hash = key === undefined ? undefined : hashOf(key.slice(key.indexOf(":") + 1));
      const got = cache.pool.hashOf(id);
      expect([cache.pool.references(id), cache.pool.generation(id)]).toEqual([
        references,
        generation,
      ]);
      expect(got === undefined ? undefined : got.join()).toBe(hash?.join());
      if (key === undefined) continue;
      expect(`${cache.pool.groupOf(id)}`).toBe(key.slice(0, key.indexOf(":")));
      expect(cache.pool.publishedStep(id)).toBe(block.step);
      expect(cache.pool.find(got!, 0, cache.pool.groupOf(id)!)).toBe(model.pool.find(key));
    }
    for (const { real, model: sequence } of this.pairs) {
      for (const [group, table] of sequence.tables.entries()) {
        const { entries, first } = real.tables[group]!;
        expect([...entries]).toEqual(table);
        expect(first).toBe(sequence.firsts[group]!);
      }
      expect(real.hashes.length).toBeGreaterThanOrEqual(real.numHashes * HASH_WORDS);
      expect([real.numGrown, real.numPublished]).toEqual([sequence.grown, sequence.published]);
      for (let block = 0; block < sequence.tables[0]!.length; block++)
        expect(real.isPresent(block)).toBe(sequence.present[block] === true);
    }
  }
}

describe("kv cache", () => {
  test("does what plain arrays do, whatever the groups and commands (I1-I6)", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(group, { minLength: 1, maxLength: 3 }),
        fc.array(command, { maxLength: 60, size: "max" }),
        (numBlocks, blockSize, groups, commands) => {
          const both = new Both(numBlocks, blockSize, groups);
          for (const command of commands) both.do(command);
          while (both.pairs.length > 0) both.do({ kind: "release", pick: 0 });
          both.do({ kind: "copied" });
          for (let i = 0; i < commands.length; i++) both.do({ kind: "land" });
          expect(both.cache.pool.numFree).toBe(numBlocks - 1);
        },
      ),
      propertyRuns(400),
    );
  });
});
