/** What `GET /kv/explain/{id}` answers: names and types that stay as they are; new fields may come. */

import { z } from "zod";
import { MISS_CAUSES, type MissCause } from "../../explain/facts.ts";

const PARTS = ["message", "tools", "template", "prompt", "unknown"] as const;
const LOOKS = ["time", "uuid"] as const;
const DIFFERENCES = [
  "time",
  "uuid",
  "tool_order",
  "template_changed",
  "message",
  "tools",
  "template",
  "prompt",
  "unknown",
] as const;
const STATES = ["waiting", "running", "answered", "ended", "forgotten"] as const;
const RUN_STATES = ["cached", "evicted", "reset", "step_failed", "last", "computed"] as const;

export interface TokenExplanation {
  /** From the prompt's start, in tokens. */
  readonly position: number;
  readonly id: number;
  /** As it is written in the prompt. */
  readonly text: string;
  /** Some of the prompt around it. */
  readonly near: string;
  /** `prompt`: a text or token ids of /v1/completions. `unknown`: the template does not tell. */
  readonly part: (typeof PARTS)[number];
  /** Index of the message it is in; of `template`, of the next message, where there is one. */
  readonly message: number | null;
  readonly role: string | null;
  /** Field of the message. */
  readonly field: string | null;
  /** From the start of the part, in UTF-16 units. */
  readonly offset: number | null;
  readonly looks_like: (typeof LOOKS)[number] | null;
}

export interface ComparedExplanation {
  /** Number of the request since the engine's start. */
  readonly request: number;
  /** Seconds since the epoch, as all times here. */
  readonly arrived_at: number;
  readonly common_tokens: number;
  /** Whether they part in what the other one was answered. */
  readonly in_answer: boolean;
  readonly same_salt: boolean;
}

export interface RunExplanation {
  /** Tokens `start` up to `end` of the prompt. */
  readonly start: number;
  readonly end: number;
  /** Why computed tokens were, where that is known; `last`: behind the last full block that could be cached. */
  readonly state: (typeof RUN_STATES)[number];
  /** `device`, or a connector's tier. */
  readonly tier: string | null;
}

export interface PromptExplanation {
  /** Which of the request's prompts. */
  readonly index: number;
  readonly request: number;
  /** `forgotten`: all that follows is empty. `waiting`, `running`: nothing is final yet. `ended`: without a first token. */
  readonly state: (typeof STATES)[number];
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  /** Leading ones of them. */
  readonly hit_tokens: number;
  readonly tiers: Readonly<Record<string, number>>;
  readonly load_ms: number | null;
  readonly saved_ms: number | null;
  readonly cause: MissCause;
  /** What it is that differs, where the cause is `differs`. */
  readonly difference: (typeof DIFFERENCES)[number] | null;
  /** The first token that the closest earlier request does not have, where that is the cause, else the first that was computed. */
  readonly token: TokenExplanation | null;
  readonly closest: ComparedExplanation | null;
  /** With the token of the other one: who knows its id may see that. */
  readonly against:
    | (ComparedExplanation & {
        readonly token: { readonly id: number; readonly text: string } | null;
      })
    | null;
  /** When the content of the first computed block went, which request got the block, and when a tier let go of its copy. */
  readonly removed: {
    readonly at: number;
    readonly by_request: number | null;
    readonly tier_dropped_at: number | null;
  } | null;
  readonly runs: readonly RunExplanation[];
  /** One sentence that says why. */
  readonly sentence: string;
  readonly hints: readonly string[];
}

export interface Explanation {
  readonly object: "kv.explanation";
  readonly id: string;
  readonly engine_started_at: number;
  /** Whether every request and every eviction since then is remembered. */
  readonly is_complete: boolean;
  readonly prompts: readonly PromptExplanation[];
}

const count = z.number().int().nonnegative();

const token = z.object({
  position: count,
  id: count,
  text: z.string(),
  near: z.string(),
  part: z.enum(PARTS),
  message: count.nullable(),
  role: z.string().nullable(),
  field: z.string().nullable(),
  offset: count.nullable(),
  looks_like: z.enum(LOOKS).nullable(),
});

const compared = z.object({
  request: count,
  arrived_at: z.number(),
  common_tokens: count,
  in_answer: z.boolean(),
  same_salt: z.boolean(),
});

const prompt = z.object({
  index: count,
  request: count,
  state: z.enum(STATES),
  prompt_tokens: count,
  cached_tokens: count,
  hit_tokens: count,
  tiers: z.record(z.string(), count),
  load_ms: z.number().nullable(),
  saved_ms: z.number().nullable(),
  cause: z.enum(MISS_CAUSES),
  difference: z.enum(DIFFERENCES).nullable(),
  token: token.nullable(),
  closest: compared.nullable(),
  against: compared.extend({ token: token.pick({ id: true, text: true }).nullable() }).nullable(),
  removed: z
    .object({
      at: z.number(),
      by_request: count.nullable(),
      tier_dropped_at: z.number().nullable(),
    })
    .nullable(),
  runs: z.array(
    z.object({
      start: count,
      end: count,
      state: z.enum(RUN_STATES),
      tier: z.string().nullable(),
    }),
  ),
  sentence: z.string(),
  hints: z.array(z.string()),
});

export const explanationSchema: z.ZodType<Explanation> = z.object({
  object: z.literal("kv.explanation"),
  id: z.string(),
  engine_started_at: z.number(),
  is_complete: z.boolean(),
  prompts: z.array(prompt),
});
