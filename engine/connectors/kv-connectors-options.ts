/** What the scheduler's side of connectors is made with. */

import type { KvEvent } from "../../connectors/connector.ts";
import type { LedgerOptions } from "./ledgers.ts";

export interface KvConnectorsOptions extends LedgerOptions {
  /** How long a look-up may stay `pending`, in milliseconds: then it is a miss. */
  readonly lookupTimeoutMs: number;
  /** How long a request waits for planned blocks. */
  readonly loadTimeoutMs: number;
  /** Most blocks of one connector in flight. */
  readonly maxFlying: number;
  /** Asks for one more `schedule()`; left out = one comes anyway. Called outside of hooks and steps. */
  readonly wake?: () => void;
  /** See `modelFingerprint`; left out = no connector keeps files. */
  readonly fingerprint?: string;
  /** What happened to a connector's copies, after each commit. */
  readonly onEvents?: (connector: string, events: readonly KvEvent[]) => void;
}
