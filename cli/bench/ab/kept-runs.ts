/** What is reported of a session in turns, also of one that ended early. */

import type { Run } from "../types.ts";
import { type Interleaved, wholeRounds } from "./interleave.ts";

export interface KeptRuns {
  /** In the order in which they ran. */
  readonly runs: readonly Run[];
  /** Why the session ended early; empty = it did not. */
  readonly warnings: readonly string[];
}

/**
 * Of a session that ended early, whole rounds: they can be compared. Where there is none, what was measured, as it is; throws what
 * ended the session where that is nothing. `reason` is why it did, in words.
 */
export function keptRuns(session: Interleaved<Run>, numSides: number, reason: string): KeptRuns {
  if (!("stopped" in session))
    return { runs: session.runs.map(({ result }) => result), warnings: [] };
  const ended = session.runs.filter(({ result }) => result.stopped !== "interrupted");
  const whole = wholeRounds({ runs: ended }, numSides);
  const kept = whole.length > 0 ? whole : session.runs;
  if (kept.length === 0) throw session.stopped;
  const dropped = session.runs.length - kept.length;
  const left = dropped === 0 ? "" : `; ${dropped} of a round that did not end are left out`;
  return {
    runs: kept.map(({ result }) => result),
    warnings: [`the comparison ended early: ${reason}${left}`],
  };
}
