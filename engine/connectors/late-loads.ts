/** What is said of blocks that a connector promised and that did not come in time: whether it, or its transfers, are to blame. */

import type { LoadingBlock } from "./loading-blocks.ts";

/** By the connectors' places; undefined = all were in transfers that are too slow, which is not the connector's doing. */
export function lateTexts(late: readonly LoadingBlock[]): Map<number, string | undefined> {
  const byConnector = Map.groupBy(late, ({ connector }) => connector);
  return new Map([...byConnector].map(([connector, blocks]) => [connector, lateText(blocks)]));
}

function lateText(late: readonly LoadingBlock[]): string | undefined {
  const slow = late.filter(({ flight }) => flight !== undefined).length;
  const refused = late.filter(({ flight, refusal }) => flight === undefined && refusal);
  const untried = late.length - slow - refused.length;
  if (untried + refused.length === 0) return undefined;
  const codes = [...new Set(refused.map(({ refusal }) => `\`${refusal}\``))].join(", ");
  const why = [
    ...(untried > 0 ? [`no load of ${untried} was begun`] : []),
    ...(refused.length > 0 ? [`the load of ${refused.length} was refused as ${codes}`] : []),
    ...(slow > 0 ? [`the load of ${slow} more is slow`] : []),
  ];
  return `promised ${untried + refused.length} blocks and did not load them in time (${why.join("; ")})`;
}
