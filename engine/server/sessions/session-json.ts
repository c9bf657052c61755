/** What the endpoints about sessions take and answer. */

import { z } from "zod";
import type { SessionAnswer, SessionFacts } from "../../connectors/sessions/session-query.ts";
import { sessionName } from "../common-fields.ts";
import { type Field, integerIn, says } from "../field-checks.ts";

/** Longest time that a session is kept, in seconds: 30 days. */
export const MAX_TTL = 2_592_000;
export const TTL: string = `an integer of seconds from 1 to ${MAX_TTL}`;
const ID = "the id of an answer";

export interface SessionRequest {
  readonly id?: string | null | undefined;
  readonly session?: string | null | undefined;
  readonly ttl?: number | null | undefined;
}

export interface ImportRequest {
  readonly session?: string | null | undefined;
  readonly cache_salt?: string | undefined;
  readonly ttl?: number | undefined;
}

/** A session by its name, or an answer by its id. */
const which: { readonly id: Field<string>; readonly session: Field<string> } = {
  /** The answer that the session ends with; it is then called by `session`, or else by its id. */
  id: z.string(says(ID)).min(1, says(ID)).max(200, says(ID)).nullish(),
  session: sessionName,
};

export const FREEZE_SCHEMA: z.ZodType<SessionRequest> = z.strictObject({
  ...which,
  /** Seconds; left out = a day. */
  ttl: integerIn(1, MAX_TTL, TTL),
});
/** From the address: all is text. */
export const IMPORT_SCHEMA: z.ZodType<ImportRequest> = z.strictObject({
  session: sessionName,
  cache_salt: z.string(says("a string")).min(1, says("a string")).max(1024).optional(),
  ttl: z
    .string()
    .regex(/^[1-9][0-9]{0,6}$/, says(TTL))
    .transform(Number)
    .refine((seconds) => seconds <= MAX_TTL, says(TTL))
    .optional(),
});
export const SESSION_SCHEMA: z.ZodType<SessionRequest> = z.strictObject(which);

export interface SessionJson {
  readonly object: "kv.session";
  readonly session: string;
  /** `live`: it is known, and not kept. `frozen`: it is kept until `expires_at`. `gone`: nothing of its beginning is left anywhere. */
  readonly state: "live" | "frozen" | "gone";
  /** Those in full blocks: others are not kept. */
  readonly tokens: number;
  /** Leading ones of which KV is left somewhere: what its next request finds at most. */
  readonly found_tokens: number;
  /** Pages that these fill, and how many are where; one may be in several places. */
  readonly pages: number;
  readonly device_pages: number;
  readonly host_pages: number;
  readonly disk_pages: number;
  /** Pages that are not forgotten before that time. */
  readonly kept_pages: number;
  /** Seconds since the epoch; null = it is not kept. */
  readonly expires_at: number | null;
  /** Whether it is known by its name after a restart: its token ids lie beside its pages on the disk. */
  readonly survives_restart: boolean;
}

export interface SessionListJson {
  readonly object: "list";
  readonly data: readonly SessionJson[];
}

const count = z.number().int().nonnegative();
export const sessionSchema: z.ZodType<SessionJson> = z.object({
  object: z.literal("kv.session"),
  session: z.string(),
  state: z.enum(["live", "frozen", "gone"]),
  tokens: count,
  found_tokens: count,
  pages: count,
  device_pages: count,
  host_pages: count,
  disk_pages: count,
  kept_pages: count,
  expires_at: z.number().nullable(),
  survives_restart: z.boolean(),
});
export const sessionListSchema: z.ZodType<SessionListJson> = z.object({
  object: z.literal("list"),
  data: z.array(sessionSchema),
});

/** `now`: milliseconds since the epoch. */
export function sessionsJson({ sessions }: SessionAnswer, now: number): SessionJson[] {
  return sessions.map((facts) => sessionJson(facts, now));
}

function sessionJson(facts: SessionFacts, now: number): SessionJson {
  return {
    object: "kv.session",
    session: facts.name,
    state: facts.state,
    tokens: facts.numTokens,
    found_tokens: facts.numFoundTokens,
    pages: facts.numPages,
    device_pages: facts.onDevice,
    host_pages: facts.inHost,
    disk_pages: facts.onDisk,
    kept_pages: facts.numKept,
    expires_at: facts.msLeft > 0 ? Math.round(now + facts.msLeft) / 1000 : null,
    survives_restart: facts.survivesRestart,
  };
}
