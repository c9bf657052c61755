/** Pins that requests ask for by `cache_control`. */

import { randomUUID } from "node:crypto";
import type { Context } from "hono";
import { toKvEngineError } from "../../errors.ts";
import type { PromptPin } from "../cache-control.ts";
import type { AppContext, Env } from "../deps.ts";

/** The header that says what became of them. */
export const PINNED_HEADER = "x-kvengine-pinned-tokens";

export interface RequestPin extends PromptPin {
  /** What the engine calls the request; it is queued. */
  readonly request: string;
}

/** Pins what fits; the header has the tokens of each pin, 0 where it was refused, and why. Never rejects. */
export async function pinMarked(
  { deps }: AppContext,
  c: Context<Env>,
  pins: readonly RequestPin[],
): Promise<void> {
  const owner = c.get("caller").name;
  const tokens: number[] = [];
  let reason: string | undefined;
  for (const { request, numTokens, ttlMs } of pins) {
    try {
      const answer = await deps.client.pin({
        ...{ kind: "add", owner, pin: `pin-${randomUUID()}`, request, ttlMs },
        ...{ tokens: numTokens, renews: true },
      });
      tokens.push(answer.pins[0]?.numTokens ?? 0);
    } catch (thrown) {
      // A pin is a wish: the request goes on without it.
      tokens.push(0);
      reason = toKvEngineError(thrown).message;
    }
  }
  const why = reason === undefined ? "" : `; ${reason.replace(/[^\x20-\x7e]/g, "?")}`;
  c.header(PINNED_HEADER, `${tokens.join(", ")}${why}`);
}
