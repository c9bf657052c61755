/** An obviously correct cache: plain arrays, searched from end to end. What the real one does is held against it. */

import { type GroupSpec, peakBlocks } from "../../../engine/cache/block-group.ts";

interface ModelBlock {
  references: number;
  generation: number;
  /** Group and content, undefined without a hash. */
  key: string | undefined;
  step: number;
  /** When the key was given. */
  order: number;
  /** Copies that are under way. */
  flights: number;
  /** How often it came into the queue. */
  entered: number;
}

export class PoolModel {
  readonly blocks: ModelBlock[];
  queue: number[];
  #clock = 0;

  constructor(numBlocks: number) {
    this.blocks = Array.from({ length: numBlocks }, () => ({
      references: 0,
      generation: 0,
      key: undefined,
      step: -1,
      order: -1,
      flights: 0,
      entered: 0,
    }));
    this.queue = [...this.blocks.keys()].slice(1);
  }

  block(id: number): ModelBlock {
    return this.blocks[id]!;
  }

  /** What can be handed out, in order. */
  get free(): number[] {
    return this.queue.filter((id) => this.block(id).flights === 0);
  }

  take(count: number): number[] {
    const ids = this.free.slice(0, count);
    this.queue = this.queue.filter((id) => !ids.includes(id));
    for (const id of ids) {
      const block = this.block(id);
      block.references = 1;
      block.generation++;
      block.key = undefined;
    }
    return ids;
  }

  hold(ids: readonly number[]): void {
    for (const id of ids) this.block(id).references++;
    this.queue = this.queue.filter((id) => this.block(id).references === 0);
  }

  drop(ids: readonly number[]): void {
    const front: number[] = [];
    for (const id of ids) this.block(id).references--;
    for (const id of [...ids].reverse()) {
      if (this.block(id).references > 0 || this.queue.includes(id) || front.includes(id)) continue;
      this.block(id).entered++;
      if (this.block(id).key === undefined) front.push(id);
      else this.queue.push(id);
    }
    this.queue.unshift(...front);
  }

  /** Another copy of each, or with -1 one fewer. */
  fly(ids: readonly number[], by: 1 | -1): void {
    for (const id of ids) this.block(id).flights += by;
  }

  setKey(id: number, key: string, step: number): void {
    Object.assign(this.block(id), { key, step, order: this.#clock++ });
  }

  /** 0 = none. */
  find(key: string): number {
    const ids = [...this.blocks.keys()].filter((id) => this.block(id).key === key);
    return ids.sort((a, b) => this.block(a).order - this.block(b).order)[0] ?? 0;
  }

  clearKeys(): void {
    for (const block of this.blocks) block.key = undefined;
  }
}

export interface ModelSequence {
  /** Content of each block with all before it. */
  readonly contents: readonly string[];
  tables: number[][];
  firsts: number[];
  present: boolean[];
  /** Tokens computed so far. */
  computed: number;
  grown: number;
  published: number;
  generation: number;
}

export interface ModelMatch {
  readonly numBlocks: number;
  readonly islands: readonly number[];
  /** Of each group, by block; 0 = none or not needed. */
  readonly found: readonly (readonly number[])[];
}

export class CacheModel {
  readonly pool: PoolModel;
  generation = 0;
  readonly groups: readonly GroupSpec[];
  readonly blockSize: number;

  constructor(numBlocks: number, blockSize: number, groups: readonly GroupSpec[]) {
    this.pool = new PoolModel(numBlocks);
    this.groups = groups;
    this.blockSize = blockSize;
  }

  create(contents: readonly string[]): ModelSequence {
    return {
      contents,
      tables: this.groups.map(() => []),
      firsts: this.groups.map(() => 0),
      present: [],
      computed: 0,
      grown: 0,
      published: 0,
      generation: this.generation,
    };
  }

  /** The blocks that a token at `position` of group `spec` reads, its own left out. */
  readBlocks(spec: GroupSpec, position: number): number[] {
    if (spec.kind === "state")
      return position === 0 ? [] : [Math.floor((position - 1) / this.blockSize)];
    const earliest = spec.kind === "full" ? 0 : Math.max(0, position - spec.window + 1);
    const blocks = new Set<number>();
    for (let read = earliest; read < position; read++)
      blocks.add(Math.floor(read / this.blockSize));
    return [...blocks];
  }

  match(contents: readonly string[], maxBlocks: number): ModelMatch {
    const limit = Math.min(maxBlocks, contents.length);
    const lookup = (group: number, block: number): number =>
      this.pool.find(`${group}:${contents[block]}`);
    const isValid = (end: number): boolean =>
      this.groups.every((spec, group) => {
        const needed = this.readBlocks(spec, end * this.blockSize);
        if (needed.length === 0) needed.push(end - 1);
        return needed.every((block) => lookup(group, block) !== 0);
      });
    let numBlocks = limit;
    while (numBlocks > 0 && !isValid(numBlocks)) numBlocks--;
    const islands = [...contents.keys()].filter(
      (block) =>
        block >= numBlocks &&
        block < limit &&
        this.groups.every((_, group) => lookup(group, block) !== 0),
    );
    const found = this.groups.map((spec, group) => {
      const needed = this.readBlocks(spec, numBlocks * this.blockSize);
      return [...contents.keys()].map((block) =>
        needed.includes(block) || islands.includes(block) ? lookup(group, block) : 0,
      );
    });
    return { numBlocks, islands, found };
  }

  take(sequence: ModelSequence, match: ModelMatch, islands: readonly number[]): void {
    const length = Math.max(match.numBlocks, ...islands.map((block) => block + 1));
    for (const [group, spec] of this.groups.entries()) {
      const keep = (block: number): boolean => block < match.numBlocks || islands.includes(block);
      const table = match.found[group]!.slice(0, length).map((id, block) => (keep(block) ? id : 0));
      sequence.tables[group] = table;
      const reads = this.readBlocks(spec, match.numBlocks * this.blockSize);
      sequence.firsts[group] = Math.min(match.numBlocks, ...reads);
      this.pool.hold(table.filter((id) => id !== 0));
    }
    sequence.present = Array.from(
      { length },
      (_, block) => block < match.numBlocks || islands.includes(block),
    );
    sequence.grown = match.numBlocks;
    sequence.published = match.numBlocks;
    sequence.computed = match.numBlocks * this.blockSize;
    sequence.generation = this.generation;
  }

  growth(sequence: ModelSequence, numTokens: number): number {
    let missing = 0;
    for (let block = sequence.grown; block * this.blockSize < numTokens; block++)
      for (const table of sequence.tables) if ((table[block] ?? 0) === 0) missing++;
    return missing;
  }

  grow(sequence: ModelSequence, numTokens: number): boolean {
    const end = Math.ceil(numTokens / this.blockSize);
    const growth = this.growth(sequence, numTokens);
    if (growth > this.pool.free.length && !this.#giveUp(sequence, end, growth)) return false;
    for (const table of sequence.tables) {
      for (let block = sequence.grown; block < end; block++)
        if ((table[block] ?? 0) === 0) table[block] = this.pool.take(1)[0]!;
    }
    sequence.grown = Math.max(sequence.grown, end);
    return true;
  }

  /** Shortens the tables until `wanted` blocks are free. */
  #giveUp(sequence: ModelSequence, end: number, wanted: number): boolean {
    const { tables } = sequence;
    for (let cut = tables[0]!.length - 1; cut >= end; cut--) {
      const gone = tables.flatMap((table) => table.slice(cut)).filter((id) => id !== 0);
      const gain = gone.filter(
        (id) => this.pool.block(id).references === 1 && this.pool.block(id).flights === 0,
      ).length;
      if (this.pool.free.length + gain < wanted) continue;
      for (const table of tables) this.pool.drop(table.splice(cut).filter((id) => id !== 0));
      while (tables[0]!.length > end && tables[0]!.at(-1) === 0)
        for (const table of tables) table.pop();
      sequence.present.length = Math.min(tables[0]!.length, sequence.present.length);
      return true;
    }
    return false;
  }

  compute(sequence: ModelSequence, numTokens: number, step: number): void {
    const whole = Math.floor(numTokens / this.blockSize);
    for (let block = 0; block < whole; block++) sequence.present[block] = true;
    sequence.computed = numTokens;
    if (sequence.generation !== this.generation) return;
    const end = Math.min(whole, sequence.contents.length);
    for (const [group, table] of sequence.tables.entries()) {
      for (let block = sequence.published; block < end; block++) {
        const id = table[block]!;
        if (id !== 0 && this.pool.block(id).key === undefined)
          this.pool.setKey(id, `${group}:${sequence.contents[block]}`, step);
      }
    }
    sequence.published = Math.max(sequence.published, end);
  }

  slide(sequence: ModelSequence, numTokens: number): void {
    for (const [group, spec] of this.groups.entries()) {
      if (spec.kind === "full") continue;
      const own = Math.floor(numTokens / this.blockSize);
      const first = Math.min(own, sequence.grown, ...this.readBlocks(spec, numTokens));
      const table = sequence.tables[group]!;
      this.pool.drop(table.slice(0, first).filter((id) => id !== 0));
      table.fill(0, 0, Math.min(first, table.length));
      sequence.firsts[group] = Math.max(sequence.firsts[group]!, first);
    }
  }

  withdraw(sequence: ModelSequence, step: number): number[] {
    const ids = sequence.tables
      .flat()
      .filter(
        (id) =>
          id !== 0 && this.pool.block(id).key !== undefined && this.pool.block(id).step >= step,
      );
    for (const id of ids) this.pool.block(id).key = undefined;
    return ids;
  }

  /** Undefined = refused. Answers the pairs to copy. */
  fork(from: ModelSequence, to: ModelSequence, numTokens: number): number[] | undefined {
    const position = numTokens - 1;
    const last = Math.floor(position / this.blockSize);
    const isCopied = position % this.blockSize !== 0;
    if (this.groups.some(({ kind }) => kind === "state")) return undefined;
    if (this.pool.free.length < this.groups.length) return undefined;
    const shared = this.groups.map((spec) =>
      this.readBlocks(spec, position).filter((block) => block < last),
    );
    for (const [group, blocks] of shared.entries()) {
      const table = from.tables[group]!;
      if (blocks.some((block) => (table[block] ?? 0) === 0 || from.present[block] !== true))
        return undefined;
      if (table.length < last || (isCopied && (table[last] ?? 0) === 0)) return undefined;
    }
    const copies: number[] = [];
    for (const [group, blocks] of shared.entries()) {
      const source = from.tables[group]!;
      const table = Array.from({ length: last + 1 }, (_, block) =>
        blocks.includes(block) ? source[block]! : 0,
      );
      this.pool.hold(table.filter((id) => id !== 0));
      table[last] = this.pool.take(1)[0]!;
      to.tables[group] = table;
      to.firsts[group] = Math.min(last, ...blocks);
      if (!isCopied) continue;
      this.pool.hold([source[last]!]);
      copies.push(source[last]!, table[last]);
    }
    to.grown = last + 1;
    to.published = Math.min(from.published, last);
    to.present = Array.from({ length: last }, () => true);
    to.computed = position;
    to.generation = from.generation;
    return copies;
  }

  release(sequence: ModelSequence): void {
    for (const table of sequence.tables) this.pool.drop(table.filter((id) => id !== 0));
    Object.assign(sequence, this.create(sequence.contents), { generation: sequence.generation });
  }

  reset(): void {
    this.pool.clearKeys();
    this.generation++;
  }

  peak(numTokens: number, maxInFlightTokens: number): number {
    return peakBlocks(this.groups, this.blockSize, numTokens, maxInFlightTokens);
  }
}
