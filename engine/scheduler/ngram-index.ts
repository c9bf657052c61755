/**
 * Where each run of `n` tokens was seen last: an open-addressing table of positions alone. The tokens themselves are compared,
 * so equal hashes cost time and nothing else. 4 bytes a place, at most three quarters full.
 */

/** Places looked at before one gives up. Random tokens need far fewer; a text made to collide loses entries, not time. */
const MOST_PROBES = 64;

export class NgramIndex {
  readonly #n: number;
  /** End (position behind the last token) of an n-gram; 0 = empty. */
  #ends: Int32Array = new Int32Array(32);
  #size = 0;

  constructor(n: number) {
    this.#n = n;
  }

  /** Bytes of the table. */
  get numBytes(): number {
    return this.#ends.byteLength;
  }

  /** End of the n-gram added last that equals the one that ends at `end`; 0 = none. */
  find(tokens: Int32Array, end: number): number {
    const place = this.#place(tokens, end);
    const found = this.#ends[place] as number;
    return found > 0 && this.#equal(tokens, found, end) ? found : 0;
  }

  /** Adds the n-gram that ends at `end`, in place of an equal one. */
  add(tokens: Int32Array, end: number): void {
    const place = this.#place(tokens, end);
    if (this.#ends[place] === 0) this.#size++;
    this.#ends[place] = end;
    if (this.#size * 4 > this.#ends.length * 3) this.#grow(tokens);
  }

  /** The place of an equal n-gram, else an empty one, else, after many probes, any. */
  #place(tokens: Int32Array, end: number): number {
    const ends = this.#ends;
    const mask = ends.length - 1;
    let place = this.#hash(tokens, end) & mask;
    // Steps 1, 2, 3, …: with a power of two of places each is visited once.
    for (let probe = 1; probe < MOST_PROBES; probe++) {
      const other = ends[place] as number;
      if (other === 0 || this.#equal(tokens, other, end)) break;
      place = (place + probe) & mask;
    }
    return place;
  }

  #equal(tokens: Int32Array, a: number, b: number): boolean {
    for (let back = 1; back <= this.#n; back++)
      if (tokens[a - back] !== tokens[b - back]) return false;
    return true;
  }

  #hash(tokens: Int32Array, end: number): number {
    let hash = 0;
    for (let at = end - this.#n; at < end; at++) {
      hash = Math.imul(hash ^ (tokens[at] as number), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0x85ebca6b);
    return hash ^ (hash >>> 16);
  }

  #grow(tokens: Int32Array): void {
    const old = this.#ends;
    this.#ends = new Int32Array(old.length * 2);
    this.#size = 0;
    for (const end of old) {
      if (end === 0) continue;
      const place = this.#place(tokens, end);
      if (this.#ends[place] === 0) this.#size++;
      this.#ends[place] = end;
    }
  }
}
