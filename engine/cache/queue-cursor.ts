/**
 * How far one walk through the free queue has come. The queue tells its open cursors of every change, so a walk goes on where it
 * was, whatever was handed out, referenced, freed or copied meanwhile, and its count of the blocks behind it stays right.
 */

/** Passes are numbered, so that a new one need not clear the marks of the one before. A mark is a word. */
const LAST_PASS = 2 ** 31 - 1;

export class QueueCursor {
  /** The block that was passed last, or the queue's end (its id) before the first. */
  at = 0;
  /** Blocks of the queue from its head up to `at`. */
  numPassed = 0;
  #pass = 0;
  readonly #lastPass: number;
  /** Of each block: the last pass that came by it. */
  readonly #seen: Int32Array;
  /** Of each block: the pass in which it lies between the head and `at`. */
  readonly #behind: Int32Array;

  /** After the pass `lastPass` numbers begin again. */
  constructor(numBlocks: number, lastPass: number = LAST_PASS) {
    this.#lastPass = lastPass;
    this.#seen = new Int32Array(numBlocks);
    this.#behind = new Int32Array(numBlocks);
  }

  /** Begins a pass before the head of the queue whose end is `end`. */
  start(end: number): void {
    if (this.#pass === this.#lastPass) {
      this.#seen.fill(0);
      this.#behind.fill(0);
      this.#pass = 0;
    }
    this.#pass++;
    this.at = end;
    this.numPassed = 0;
  }

  /** Passes the block behind `at`. False: it was passed before, and has been put behind the cursor's place since. */
  pass(id: number): boolean {
    this.at = id;
    this.numPassed++;
    this.#behind[id] = this.#pass;
    if (this.#seen[id] === this.#pass) return false;
    this.#seen[id] = this.#pass;
    return true;
  }

  /** A block has left the queue; `previous` was the one before it, or the queue's end. */
  removed(id: number, previous: number): void {
    if (this.#behind[id] !== this.#pass) return;
    this.#behind[id] = 0;
    this.numPassed--;
    if (id === this.at) this.at = previous;
  }

  /** A block has come to the front of the queue. Before the first step of a pass it lies ahead. */
  prepended(id: number): void {
    if (this.numPassed === 0) return;
    this.#behind[id] = this.#pass;
    this.numPassed++;
  }
}
