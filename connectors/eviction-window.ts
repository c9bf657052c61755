/** How far ahead of its eviction a block must be stored: as many blocks as are handed out while a copy is made. */

/** Steps that are remembered; a copy that takes longer counts as one that takes so long. */
const MOST_STEPS = 256;
/** Steps that a block is stored ahead, beside the time that its copy takes. */
const SPARE_STEPS = 2;
/** The most that a step has taken counts so many times: the next may take as many, before many steps have told. */
const BURSTS = 4;
/** Weight of a lower number: what is needed rises at once, and falls slowly. */
const FALL = 0.02;

export class EvictionWindow {
  /** Of the last steps: all blocks that had been handed out before each. */
  readonly #before = new Float64Array(MOST_STEPS);
  #numSteps = 0;
  #total = 0;
  #burst = 0;
  #need = 0;

  /** Blocks; 0 before the first step. */
  get blocks(): number {
    return Math.ceil(Math.max(this.#need, BURSTS * this.#burst));
  }

  /** A step was scheduled, for which so many blocks were handed out. `copySteps`: steps that pass while a block is copied. */
  observe(numAllocated: number, copySteps: number): void {
    this.#before[this.#numSteps % MOST_STEPS] = this.#total;
    this.#numSteps++;
    this.#total += numAllocated;
    const steps = Math.min(Math.ceil(copySteps) + SPARE_STEPS, MOST_STEPS, this.#numSteps);
    const first = (this.#numSteps - steps) % MOST_STEPS;
    const taken = this.#total - (this.#before[first] as number);
    this.#need = Math.max(taken, this.#need + FALL * (taken - this.#need));
    this.#burst = Math.max(numAllocated, this.#burst + FALL * (numAllocated - this.#burst));
  }
}
