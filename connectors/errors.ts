/** What the engine refuses a connector, and what a connector says is wrong with its options. */

/**
 * `budget`: more blocks than the connector may hold, or more transfers than may be in flight. `pressure`: requests wait for blocks
 * now. `notHeld`: the connector does not hold it. `stale`: the block has no content that a connector may see (it was handed out
 * again, or its step has not committed). `null`: block 0. `lease_expired`: the hold ended at its deadline. `closed`: the connector was
 * disabled or shut down, or the call is not allowed outside the hook that it belongs to. `invalid`: an argument is not what it must be.
 */
export type RefusalCode =
  | "budget"
  | "pressure"
  | "notHeld"
  | "stale"
  | "null"
  | "lease_expired"
  | "closed"
  | "invalid";

/** A call that was refused. It changed nothing, unless the call says otherwise. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly code: RefusalCode;
  /** Blocks (or transfers) that the connector could still have, where the code is `budget` or `pressure`. */
  readonly available: number | undefined;

  constructor(code: RefusalCode, message: string, available?: number) {
    super(message);
    this.code = code;
    this.available = available;
  }
}
