/** What one connector did wrong: counted always, told once, and again at most once a minute. */

import type { Hook } from "./hooks.ts";

/**
 * `throw`: a hook threw, or a promise that it left behind was rejected. `answer`: it answered what the interface does not allow.
 * `promise`: it answered a promise where nothing waits for one. `slow`: it held up the engine. `overlap`: a call of it led to another
 * hook while it ran. `outside`: its code threw while none of its hooks ran. `late`: what it promised did not come in time: the answer of a
 * look-up, a block that it said it would load, the end of its shutdown. `held`: what it touched ended at its deadline and not by it.
 */
export const FAULT_KINDS = [
  "throw",
  "answer",
  "promise",
  "slow",
  "overlap",
  "outside",
  "late",
  "held",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Between two lines about the same kind of fault of the same hook, in milliseconds. */
const QUIET_MS = 60_000;

interface Told {
  at: number;
  /** Faults since, which no line tells of. */
  untold: number;
}

export class ConnectorFaults {
  readonly #counts = new Map<FaultKind, number>(FAULT_KINDS.map((kind) => [kind, 0]));
  readonly #told = new Map<string, Told>();
  readonly #warn: (message: string) => void;
  readonly #now: () => number;

  /** `now`: milliseconds, monotonic. */
  constructor(warn: (message: string) => void, now: () => number) {
    this.#warn = warn;
    this.#now = now;
  }

  get counts(): ReadonlyMap<FaultKind, number> {
    return this.#counts;
  }

  /** `text` says what happened, the hook's name not in it. */
  add(kind: FaultKind, hook: Hook | undefined, text: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    const key = `${kind} ${hook}`;
    const told = this.#told.get(key);
    const now = this.#now();
    if (told !== undefined && now - told.at < QUIET_MS) {
      told.untold++;
      return;
    }
    const more = told === undefined || told.untold === 0 ? "" : `; ${told.untold} more before this`;
    this.#told.set(key, { at: now, untold: 0 });
    this.#warn(`${hook === undefined ? "its code" : hook} ${text}${more}`);
  }
}
