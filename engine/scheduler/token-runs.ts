/** A set of token positions that grows by runs. Nearly always each run begins where the one before ended. */

export class TokenRuns {
  /** Start and end of each run, ascending, with gaps between them. */
  #ends: number[] = [];

  /** Start and end of each run, in order: a copy. */
  ends(): number[] {
    return [...this.#ends];
  }

  /** Positions in the set. */
  get size(): number {
    let size = 0;
    for (let i = 0; i < this.#ends.length; i += 2)
      size += (this.#ends[i + 1] as number) - (this.#ends[i] as number);
    return size;
  }

  /** Adds the positions from `start` up to `end`, which may be there already. */
  add(start: number, end: number): void {
    if (end <= start) return;
    const ends = this.#ends;
    let [first, last] = [start, end];
    const apart: number[] = [];
    for (let i = 0; i < ends.length; i += 2) {
      const [from, to] = [ends[i] as number, ends[i + 1] as number];
      if (to < first || from > last) {
        apart.push(from, to);
      } else {
        first = Math.min(first, from);
        last = Math.max(last, to);
      }
    }
    let at = 0;
    while (at < apart.length && (apart[at] as number) < first) at += 2;
    apart.splice(at, 0, first, last);
    this.#ends = apart;
  }
}
