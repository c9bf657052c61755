/** Pins as people read them. */

import type { PinBudget, PinJson } from "../../engine/server/pins/pin-json.ts";

/** A pin a line, then what is left of the budget. */
export function pinLines(pins: readonly PinJson[], budget: PinBudget): string {
  const lines = pins.map(
    ({ id, tokens, pages, host_pages: inHost, disk_pages: onDisk, expires_at: end }) =>
      `${id}  ${tokens} tokens in ${pages} pages until ${new Date(end * 1000).toISOString()}, ` +
      `${inHost} in host memory, ${onDisk} on disk`,
  );
  lines.push(`${budget.used_pages} of ${budget.budget_pages} pages are pinned`);
  return lines.join("\n");
}
