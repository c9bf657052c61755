/** What a report says of a search for a rate. */

import { formatNumber } from "./format.ts";
import type { RateSearch } from "./report.ts";
import type { Section } from "./section.ts";

/** A row a rate, ascending, and the answer. */
export function searchSection(search: RateSearch): Section {
  const wanted = Object.entries(search.targets).map(([metric, ms]) => `${metric} ≤ ${ms} ms`);
  return {
    title: `Rates at which ${search.percentile} % of the requests keep ${wanted.join(", ")}`,
    columns: ["conversations a second", "requests", "verdict"],
    rows: search.probes
      .toSorted((a, b) => a.rate - b.rate)
      .map(({ rate, requests, passed, why }) => [
        formatNumber(rate),
        String(requests),
        passed ? "holds" : `fails: ${why ?? "for no known reason"}`,
      ]),
    textual: true,
    notes: [answer(search)],
  };
}

function answer({ best, limit }: RateSearch): string {
  if (best === undefined && limit === undefined) return "No rate was tried to its end.";
  if (best === undefined)
    return `No rate that was tried holds; the smallest is ${formatNumber(limit)}/s.`;
  const end = limit === undefined ? "none that was tried fails" : `${formatNumber(limit)}/s fails`;
  return `The largest rate that holds is ${formatNumber(best)}/s; ${end}.`;
}
