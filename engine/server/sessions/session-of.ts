/** Which conversation a request belongs to, by what its client says. */

import type { Context } from "hono";
import { isSessionName } from "../../connectors/sessions/session-query.ts";
import { KvEngineError } from "../../errors.ts";
import type { CompletionOptions } from "../common-fields.ts";
import type { Env } from "../deps.ts";

/** For clients that cannot add a field to their bodies. */
const SESSION_HEADER = "x-kvengine-session";

/**
 * The body's `session_id`, else the header's name, else OpenAI's `prompt_cache_key`: clients that send one mean requests with a common
 * beginning. None of them changes which KV is found. Throws `invalid_request` for a header that is no name.
 */
export function sessionOf(
  c: Context<Env>,
  { session, cacheKey }: Pick<CompletionOptions, "session" | "cacheKey">,
): string | undefined {
  const header = c.req.header(SESSION_HEADER);
  if (header !== undefined && !isSessionName(header)) {
    throw new KvEngineError(
      "invalid_request",
      `the header ${SESSION_HEADER} is no session's name; allowed are 1 to 256 characters, none of them a control character`,
      { subject: SESSION_HEADER },
    );
  }
  return session ?? header ?? cacheKey;
}
