/** How a tier is driven: options that every tier has beside its own. */

import type { ConnectorOptions, OptionValues } from "./options.ts";

export const TIER_OPTIONS: ConnectorOptions = {
  writes: {
    type: "choice",
    choices: ["through", "back"],
    default: "through",
    help: "When blocks are written to the tier: through = as soon as they are in host pages, back = before host pages are given to others",
  },
  promote: {
    type: "boolean",
    default: true,
    help: "Whether a block that was brought from the tier stays in its host page, and goes to the tiers before this one",
  },
  inFlight: {
    type: "integer",
    default: 8,
    min: 1,
    max: 64,
    unit: "pages",
    help: "Most pages on their way from the tier, and as many to it",
  },
  timeoutMs: {
    type: "integer",
    default: 1000,
    min: 1,
    max: 3_600_000,
    unit: "ms",
    help: "How long one call of the tier may take; then it has failed",
  },
  retries: {
    type: "integer",
    default: 1,
    min: 0,
    max: 10,
    unit: "times",
    help: "How often a page whose call has failed is tried again",
  },
  failures: {
    type: "integer",
    default: 5,
    min: 1,
    max: 1000,
    unit: "pages",
    help: "Pages in a row that failed, after which the tier is left alone: for a second, then for twice as long each time, up to a minute",
  },
};

export interface TierDriving {
  readonly writes: "through" | "back";
  readonly promote: boolean;
  readonly inFlight: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly failures: number;
}

/** From values that `TIER_OPTIONS` allows. */
export function drivingOf(values: OptionValues): TierDriving {
  return {
    writes: values["writes"] === "back" ? "back" : "through",
    promote: values["promote"] !== false,
    inFlight: Number(values["inFlight"]),
    timeoutMs: Number(values["timeoutMs"]),
    retries: Number(values["retries"]),
    failures: Number(values["failures"]),
  };
}
