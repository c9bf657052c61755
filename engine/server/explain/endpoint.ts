/** GET /kv/explain/{id}: why a prompt was cached as far as it was. Told to those who have the request's id, which nobody can guess. */

import type { Context } from "hono";
import { KvEngineError } from "../../errors.ts";
import type { AppContext, Env } from "../deps.ts";
import type { Generation } from "../generation.ts";
import type { ExplainBook, Noted } from "./explain-book.ts";
import { explainPrompt, forgottenPrompt } from "./explain-prompt.ts";
import type { Explanation, PromptExplanation } from "./explanation.ts";
import type { Rendering } from "./rendering.ts";

/** The response's header with the id to ask by. */
export const EXPLAIN_HEADER = "x-kvengine-explain";
/** What answers' ids begin with. */
const ID_PREFIX = /^(?:chatcmpl-|cmpl-|resp[-_])/;

/** Notes a request that is about to start, and tells its client the id to ask by: `drawnId`, where it is the server's own. */
export function noteForExplain(
  { explainBook }: AppContext,
  c: Context<Env>,
  { choices }: Pick<Generation, "choices">,
  n: number,
  rendering: Rendering | undefined,
  drawnId: string | undefined = c.get("isDrawnId") ? c.get("requestId") : undefined,
): void {
  if (explainBook === undefined) return;
  const engineIds = choices.map(({ request }) => request.id);
  const noted: Noted = { party: c.get("caller").name, engineIds, n, rendering };
  c.header(EXPLAIN_HEADER, explainBook.add(noted, drawnId));
}

export async function explain(context: AppContext, c: Context<Env>): Promise<Response> {
  const { explainBook: book, deps } = context;
  if (book === undefined) {
    throw new KvEngineError(
      "not_found",
      "this server explains nothing: it runs with --no-explain",
      {
        hint: "start it without",
      },
    );
  }
  const id = c.req.path.slice("/kv/explain/".length).replace(ID_PREFIX, "");
  const party = c.get("caller").name;
  const noted = find(book, id, party, "id");
  const otherId = c.req.query("against")?.replace(ID_PREFIX, "");
  const other = otherId === undefined ? undefined : find(book, otherId, party, "against");
  const among = book.engineIdsOf(party);
  const prompts: PromptExplanation[] = [];
  let startedAt = 0;
  let isComplete = false;
  for (let choice = 0; choice < noted.engineIds.length; choice += noted.n) {
    const facts = await deps.client.explain({
      id: noted.engineIds[choice] as string,
      among,
      ...(other === undefined ? {} : { against: other.engineIds[0] as string }),
    });
    const index = choice / noted.n;
    if (facts === undefined) {
      prompts.push(forgottenPrompt(index));
      continue;
    }
    startedAt = facts.engineStartedAt;
    isComplete = facts.isComplete;
    const closest = facts.closest === undefined ? undefined : book.ofEngineId(facts.closest.id);
    prompts.push(explainPrompt(deps.tokenizer, { index, facts, own: noted, closest }));
  }
  const explanation: Explanation = {
    object: "kv.explanation",
    id,
    engine_started_at: startedAt / 1000,
    is_complete: isComplete,
    prompts,
  };
  return c.json(explanation);
}

function find(book: ExplainBook, id: string, party: string, subject: string): Noted {
  const noted = book.get(id, party);
  if (noted !== undefined) return noted;
  const shown = id.length > 64 ? `${id.slice(0, 64)}…` : id;
  throw new KvEngineError("not_found", `no request ${JSON.stringify(shown)} is remembered`, {
    subject,
    hint:
      "the last 256 are, since the server started: take the `id` of an answer, " +
      `or its header ${EXPLAIN_HEADER} where the request had an X-Request-Id of its own, which others might guess`,
  });
}
