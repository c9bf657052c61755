/** The request that somebody asks about: told to those who have its id, which nobody can guess, and its API key. */

import type { Context } from "hono";
import { KvEngineError } from "../../errors.ts";
import type { AppContext, Env } from "../deps.ts";
import type { Noted } from "./explain-book.ts";

/** The response's header with the id to ask by. */
export const EXPLAIN_HEADER = "x-kvengine-explain";
/** What answers' ids begin with. */
const ID_PREFIX = /^(?:chatcmpl-|cmpl-|resp[-_])/;

/** An answer's id without what tells its endpoint. */
export function bareId(id: string): string {
  return id.replace(ID_PREFIX, "");
}

/** Throws `not_found`, in the same words whether there never was one or it is another party's; `subject` names the field. */
export function requestOf(
  { explainBook: book }: AppContext,
  c: Context<Env>,
  id: string,
  subject: string,
): Noted {
  if (book === undefined) {
    throw new KvEngineError(
      "not_found",
      "this server remembers no requests: it runs with --no-explain",
      { hint: "start it without" },
    );
  }
  const bare = bareId(id);
  const noted = book.get(bare, c.get("caller").name);
  if (noted !== undefined) return noted;
  const shown = bare.length > 64 ? `${bare.slice(0, 64)}…` : bare;
  throw new KvEngineError("not_found", `no request ${JSON.stringify(shown)} is remembered`, {
    subject,
    hint:
      "the last 256 are, since the server started: take the `id` of an answer, " +
      `or its header ${EXPLAIN_HEADER} where the request had an X-Request-Id of its own, which others might guess`,
  });
}
