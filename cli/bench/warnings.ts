/** What a reader of a run should know, from its records. */

import type { RequestRecord, Workload } from "./types.ts";

/** One for each kind of oddity, and for conversations that ended before their last turn. */
export function runWarnings(workload: Workload, records: readonly RequestRecord[]): string[] {
  const kinds = new Map<string, { count: number; readonly example: string }>();
  for (const { warning } of records) {
    if (warning === undefined) continue;
    const kind = warning.split(":")[0] ?? warning;
    const known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, { count: 1, example: warning });
    else known.count++;
  }
  const odd = [...kinds.values()].map(
    ({ count, example }) => `${count} of ${records.length} requests: ${example}`,
  );
  return [...odd, ...abandoned(workload, records)];
}

function abandoned(workload: Workload, records: readonly RequestRecord[]): string[] {
  const numTurns = new Map(workload.conversations.map(({ id, turns }) => [id, turns.length]));
  const left = records
    .filter(({ outcome }) => outcome !== "ok")
    .map(({ conversation, turn }) => (numTurns.get(conversation) ?? 0) - turn - 1)
    .reduce((sum, turns) => sum + Math.max(0, turns), 0);
  return left === 0 ? [] : [`${left} turns were not sent, as the one before them failed`];
}
