/**
 * Which block holds the content of a hash, for each group of layers: a chained hash table in typed arrays. Several blocks
 * may carry one key, because two sequences may compute the same tokens at the same time and block tables only grow. The
 * first one inserted is the key's primary and stands in the bucket; the others hang from it in a ring, in order of insertion.
 */

import { HASH_WORDS, sameHash } from "./block-hash.ts";
import { KvEngineError } from "../errors.ts";

// A block's record is a run of words of the size of a cache line.
const WORDS = 16;
/** The next primary of the bucket, `NO_BLOCK` at the end; `NOT_PRIMARY` in all other blocks of a ring. */
const NEXT = 0;
/** Neighbours in the ring of the key; a block alone is its own. */
const RING_NEXT = 1;
const RING_PREVIOUS = 2;
const GROUP = 3;
const HASH = 4;
/** The step that published the block, a number beyond 32 bits: the lower and the upper half. */
const STEP = 12;
const STEP_UPPER = 13;

/** Many, so that most chains are one long: a second record is a second cache miss, and a branch that cannot be foreseen. */
const BUCKETS_PER_BLOCK = 4;

/** Block 0 carries no hash, so its id says that there is none. */
const NO_BLOCK = 0;
const NOT_PRIMARY = -1;

export class BlockMap {
  readonly #records: Int32Array;
  /** First primary of each bucket. */
  readonly #buckets: Int32Array;
  readonly #mask: number;
  #size = 0;
  /** Of no meaning: it keeps the compiler from leaving the reads of `prefetch` out. */
  prefetched = 0;
  /** Records looked at since the start: no call may look at more of them when there are more blocks. */
  operations = 0;

  constructor(numBlocks: number) {
    let numBuckets = 1;
    while (numBuckets < numBlocks * BUCKETS_PER_BLOCK) numBuckets *= 2;
    this.#records = new Int32Array(numBlocks * WORDS);
    this.#buckets = new Int32Array(numBuckets);
    this.#mask = numBuckets - 1;
  }

  /** Blocks with a hash. */
  get size(): number {
    return this.#size;
  }

  /** The first inserted of the blocks with this key that are still there; 0 = none. */
  find(words: Int32Array, at: number, group: number): number {
    return this.#primary(this.#bucketOf(words[at] as number, group), words, at, group);
  }

  /** The next inserted of the blocks with the key of one of the map's blocks; 0 = it was the last one. */
  findNext(id: number): number {
    const next = this.#word(id, RING_NEXT);
    return this.#word(next, NEXT) === NOT_PRIMARY ? next : NO_BLOCK;
  }

  /** The caller has made sure that the block is none of the map's. */
  insert(id: number, words: Int32Array, at: number, group: number, step: number): void {
    const records = this.#records;
    const record = id * WORDS;
    const bucket = this.#bucketOf(words[at] as number, group);
    const primary = this.#primary(bucket, words, at, group);
    for (let word = 0; word < HASH_WORDS; word++)
      records[record + HASH + word] = words[at + word] as number;
    records[record + GROUP] = group;
    records[record + STEP] = step;
    records[record + STEP_UPPER] = Math.floor(step / 2 ** 32);
    if (primary === NO_BLOCK) {
      records[record + NEXT] = this.#buckets[bucket] as number;
      records[record + RING_NEXT] = id;
      records[record + RING_PREVIOUS] = id;
      this.#buckets[bucket] = id;
    } else {
      const last = records[primary * WORDS + RING_PREVIOUS] as number;
      records[record + NEXT] = NOT_PRIMARY;
      records[record + RING_NEXT] = primary;
      records[record + RING_PREVIOUS] = last;
      records[last * WORDS + RING_NEXT] = id;
      records[primary * WORDS + RING_PREVIOUS] = id;
    }
    this.#size++;
  }

  /** The caller has made sure that the block is one of the map's. */
  remove(id: number): void {
    const records = this.#records;
    const record = id * WORDS;
    const next = records[record + NEXT] as number;
    const heir = records[record + RING_NEXT] as number;
    this.#size--;
    if (heir !== id) {
      const previous = records[record + RING_PREVIOUS] as number;
      records[previous * WORDS + RING_NEXT] = heir;
      records[heir * WORDS + RING_PREVIOUS] = previous;
      if (next === NOT_PRIMARY) return;
      records[heir * WORDS + NEXT] = next;
      this.#replace(id, heir);
    } else {
      this.#replace(id, next);
    }
  }

  /**
   * Reads what `remove` will read of several of the map's blocks. The reads wait for none of each other, so that the cache
   * misses of a large pool overlap.
   */
  prefetch(ids: Int32Array, offset: number, count: number): void {
    const records = this.#records;
    const end = offset + count;
    let sum = 0;
    for (let i = offset; i < end; i++) sum ^= records[(ids[i] as number) * WORDS + HASH] as number;
    for (let i = offset; i < end; i++) {
      const record = (ids[i] as number) * WORDS;
      const word = records[record + HASH] as number;
      sum ^= this.#buckets[this.#bucketOf(word, records[record + GROUP] as number)] as number;
    }
    this.prefetched = sum;
  }

  /** The same for what `insert` will read of `count` hashes in a row, the first at word `at`. */
  prefetchKeys(words: Int32Array, at: number, count: number, group: number): void {
    const end = at + count * HASH_WORDS;
    let sum = 0;
    for (let word = at; word < end; word += HASH_WORDS)
      sum ^= this.#buckets[this.#bucketOf(words[word] as number, group)] as number;
    this.prefetched = sum;
  }

  /** Forgets all blocks. */
  clear(): void {
    this.#buckets.fill(NO_BLOCK);
    this.#size = 0;
  }

  /** Copy of the hash of one of the map's blocks. */
  hashOf(id: number): Int32Array {
    return this.#records.slice(id * WORDS + HASH, id * WORDS + HASH + HASH_WORDS);
  }

  /** Writes the hash of one of the map's blocks to word `at` of `into`. */
  copyHash(id: number, into: Int32Array, at: number): void {
    const record = id * WORDS + HASH;
    for (let word = 0; word < HASH_WORDS; word++)
      into[at + word] = this.#records[record + word] as number;
  }

  groupOf(id: number): number {
    return this.#records[id * WORDS + GROUP] as number;
  }

  stepOf(id: number): number {
    const record = id * WORDS;
    const upper = this.#records[record + STEP_UPPER] as number;
    return upper * 2 ** 32 + ((this.#records[record + STEP] as number) >>> 0);
  }

  /** Throws `internal` unless the blocks that `isHashed` names are exactly the map's, each findable by its key. */
  checkIntegrity(isHashed: (id: number) => boolean): void {
    const seen = new Set<number>();
    for (let bucket = 0; bucket <= this.#mask; bucket++) {
      let primary = this.#buckets[bucket] as number;
      for (; primary !== NO_BLOCK; primary = this.#word(primary, NEXT)) {
        const hash = this.#records.subarray(primary * WORDS + HASH);
        const group = this.#word(primary, GROUP);
        if (this.#bucketOf(hash[0] as number, group) !== bucket)
          broken(`block ${primary} is in the wrong bucket`);
        if (this.find(hash, 0, group) !== primary)
          broken(`block ${primary} is no primary of its key`);
        this.#checkRing(primary, isHashed, seen);
      }
    }
    if (seen.size !== this.#size) broken(`${seen.size} blocks are linked, ${this.#size} counted`);
    const numBlocks = this.#records.length / WORDS;
    for (let id = 0; id < numBlocks; id++)
      if (isHashed(id) && !seen.has(id)) broken(`block ${id} has a hash and is not in the map`);
  }

  #checkRing(primary: number, isHashed: (id: number) => boolean, seen: Set<number>): void {
    let id = primary;
    do {
      if (seen.has(id)) broken(`block ${id} is linked twice`);
      seen.add(id);
      if (!isHashed(id)) broken(`block ${id} is in the map and has no hash`);
      const next = this.#word(id, RING_NEXT);
      if (this.#word(next, RING_PREVIOUS) !== id)
        broken(`block ${next} does not link back to ${id}`);
      if (id !== primary) {
        if (this.#word(id, NEXT) !== NOT_PRIMARY)
          broken(`block ${id} is a second primary of its key`);
        if (
          !sameHash(this.#records, id * WORDS + HASH, this.#records, primary * WORDS + HASH) ||
          this.#word(id, GROUP) !== this.#word(primary, GROUP)
        )
          broken(`blocks ${id} and ${primary} share a ring and no key`);
      }
      id = next;
    } while (id !== primary);
  }

  /** Puts `to` in the place of primary `id` in its bucket. */
  #replace(id: number, to: number): void {
    const records = this.#records;
    const record = id * WORDS;
    const bucket = this.#bucketOf(
      records[record + HASH] as number,
      records[record + GROUP] as number,
    );
    this.operations++;
    let before = this.#buckets[bucket] as number;
    if (before === id) {
      this.#buckets[bucket] = to;
      return;
    }
    for (;;) {
      this.operations++;
      const next = records[before * WORDS + NEXT] as number;
      if (next === id) break;
      before = next;
    }
    records[before * WORDS + NEXT] = to;
  }

  #primary(bucket: number, words: Int32Array, at: number, group: number): number {
    const records = this.#records;
    let id = this.#buckets[bucket] as number;
    while (id !== NO_BLOCK) {
      this.operations++;
      const record = id * WORDS;
      if (records[record + GROUP] === group && sameHash(records, record + HASH, words, at)) break;
      id = records[record + NEXT] as number;
    }
    return id;
  }

  /** Hashes are uniform: a word of one is as good as any function of it. */
  #bucketOf(word: number, group: number): number {
    return (word ^ Math.imul(group, 0x9e3779b1)) & this.#mask;
  }

  #word(id: number, word: number): number {
    return this.#records[id * WORDS + word] as number;
  }
}

function broken(what: string): never {
  throw new KvEngineError("internal", `block map: ${what}`);
}
