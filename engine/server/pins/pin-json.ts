/** What the endpoints about pins take and answer. */

import { z } from "zod";
import type { PinAnswer, PinFacts } from "../../connectors/pin-query.ts";
import { integerIn, says } from "../field-checks.ts";

/** Longest time of a pin in seconds: 30 days. */
const MAX_TTL = 2_592_000;
const ID = "the id of an answer, as `kvengine explain` takes it";
const TTL = `an integer of seconds from 1 to ${MAX_TTL}`;

export interface PinRequest {
  readonly id: string;
  readonly tokens?: number | null | undefined;
  readonly ttl?: number | null | undefined;
}

export const PIN_SCHEMA: z.ZodType<PinRequest> = z.strictObject({
  id: z.string(says(ID)).min(1, says(ID)).max(200, says(ID)),
  /** Leading tokens of the prompt; left out = all. */
  tokens: integerIn(1, 2 ** 31, "an integer of at least 1"),
  /** Seconds; left out = an hour. */
  ttl: integerIn(1, MAX_TTL, TTL),
});

export interface PinJson {
  readonly object: "kv.pin";
  readonly id: string;
  /** Leading tokens of the prompt that are kept: those in full blocks. */
  readonly tokens: number;
  /** Pages of the host that they fill. */
  readonly pages: number;
  /** Of these, how many are where now; one may be in both. */
  readonly host_pages: number;
  readonly disk_pages: number;
  /** Seconds since the epoch. */
  readonly expires_at: number;
}

/** The pages of all pins, those of others among them. */
export interface PinBudget {
  readonly budget_pages: number;
  readonly used_pages: number;
}

export interface PinListJson extends PinBudget {
  readonly object: "list";
  readonly data: readonly PinJson[];
}

export type PinAnswerJson = PinJson & PinBudget;

const budget = {
  budget_pages: z.number().int().nonnegative(),
  used_pages: z.number().int().nonnegative(),
};
const pin = z.object({
  object: z.literal("kv.pin"),
  id: z.string(),
  tokens: z.number().int().positive(),
  pages: z.number().int().positive(),
  host_pages: z.number().int().nonnegative(),
  disk_pages: z.number().int().nonnegative(),
  expires_at: z.number(),
});
export const pinAnswerSchema: z.ZodType<PinAnswerJson> = pin.extend(budget);
export const pinListSchema: z.ZodType<PinListJson> = z.object({
  object: z.literal("list"),
  data: z.array(pin),
  ...budget,
});

/** `now`: milliseconds since the epoch. */
export function pinJson(facts: PinFacts, now: number): PinJson {
  return {
    object: "kv.pin",
    id: facts.id,
    tokens: facts.numTokens,
    pages: facts.numPages,
    host_pages: facts.inHost,
    disk_pages: facts.onDisk,
    expires_at: Math.round(now + facts.msLeft) / 1000,
  };
}

export function budgetJson({ budget: pages, used }: PinAnswer): PinBudget {
  return { budget_pages: pages, used_pages: used };
}
