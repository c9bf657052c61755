/** What the ops of steps have cost, and what they had to do (`kernels/core/src/profile.rs`). */

/** An op of the tape, or several that are done as one. */
export interface OpProfile {
  readonly labels: readonly string[];
  /** Names of the ops. */
  readonly ops: readonly string[];
  readonly calls: number;
  readonly seconds: number;
  /** Of these, seconds in which the calling thread waited for the other compute threads. */
  readonly waited: number;
  /** Of weights and KV, to be read. */
  readonly bytes: number;
  /** Multiply-accumulates with quantised weights. */
  readonly int8: number;
  /** Multiply-accumulates with float weights and with KV. */
  readonly fp32: number;
}

export interface StepsProfile {
  readonly steps: number;
  /** From the start of a step to its end, of all. */
  readonly seconds: number;
  /** Between the end of a step and the start of one that was queued behind it. */
  readonly gaps: number;
  /** In the order of the tape. */
  readonly ops: readonly OpProfile[];
}
