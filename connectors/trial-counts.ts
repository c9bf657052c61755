/** What a connector did in trials, in numbers: for whoever wants to know whether it does anything at all. */

/** Counted in blocks; each has one host page. */
export interface TrialCounts {
  /** Copied to pages of the host. */
  readonly stored: number;
  /** Marked by the connector, and awaited by a request that was admitted. */
  readonly promised: number;
  /** Of those promised: brought, and never begun although there was time. */
  readonly loaded: number;
  readonly neverBegun: number;
  /** In stores and in loads that were refused. */
  readonly storesRefused: number;
  readonly loadsRefused: number;
  /** Pages that it has when all requests have ended and the cache was reset. */
  readonly kept: number;
}

export function sumCounts(all: readonly TrialCounts[]): TrialCounts {
  const sum = (read: (one: TrialCounts) => number): number =>
    all.reduce((total, one) => total + read(one), 0);
  return {
    stored: sum(({ stored }) => stored),
    promised: sum(({ promised }) => promised),
    loaded: sum(({ loaded }) => loaded),
    neverBegun: sum(({ neverBegun }) => neverBegun),
    storesRefused: sum(({ storesRefused }) => storesRefused),
    loadsRefused: sum(({ loadsRefused }) => loadsRefused),
    kept: sum(({ kept }) => kept),
  };
}

/** One sentence. */
export function showCounts(counts: TrialCounts): string {
  const { stored, promised, loaded, storesRefused, loadsRefused, kept } = counts;
  return (
    `in the trials it stored ${stored} blocks, loaded ${loaded} of ${promised} promised, ` +
    `and kept ${kept} pages after a reset; refused were stores of ${storesRefused} blocks and loads of ${loadsRefused}`
  );
}

/** What breaks no rule, and is rarely meant. */
export function notesOn({ stored, promised, loadsRefused, kept }: TrialCounts): readonly string[] {
  const notes: string[] = [];
  if (stored === 0 && promised === 0) notes.push("it stored nothing and promised nothing");
  if (stored > 0 && promised === 0)
    notes.push("nothing that it stored was ever used: `findBlocks` marked none of it");
  if (loadsRefused > 0) {
    notes.push(
      "loads were refused, never for want of room: a page held other content than the block wants (`stale`), or no open plan had the block; do not catch it",
    );
  }
  if (kept > 0) {
    notes.push(
      "pages were kept after a reset, when nothing in them counts: give them back in `resetCache`, those of stores under way when their results come",
    );
  }
  return notes;
}
