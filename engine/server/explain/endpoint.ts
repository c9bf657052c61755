/** GET /kv/explain/{id}: why a prompt was cached as far as it was. Told to those who have the request's id, which nobody can guess. */

import type { Context } from "hono";
import type { AppContext, Env } from "../deps.ts";
import type { Generation } from "../generation.ts";
import { bareId, EXPLAIN_HEADER, requestOf } from "./asked-request.ts";
import type { Noted } from "./explain-book.ts";
import { explainPrompt, forgottenPrompt } from "./explain-prompt.ts";
import type { Explanation, PromptExplanation } from "./explanation.ts";
import type { Rendering } from "./rendering.ts";

/** Notes a request that is about to start, and tells its client the id to ask by: `drawnId`, where it is the server's own. */
export function noteForExplain(
  { explainBook, sessionBook, metrics }: AppContext,
  c: Context<Env>,
  { choices }: Pick<Generation, "choices">,
  n: number,
  rendering: Rendering | undefined,
  session: string | undefined,
  drawnId: string | undefined = c.get("isDrawnId") ? c.get("requestId") : undefined,
): void {
  if (explainBook === undefined) return;
  if (session !== undefined) {
    sessionBook.note(c.get("caller").name, session, choices[0]?.request.id);
    metrics.namedSessions(sessionBook.size);
  }
  const engineIds = choices.map(({ request }) => request.id);
  const noted: Noted = { party: c.get("caller").name, engineIds, n, rendering };
  c.header(EXPLAIN_HEADER, explainBook.add(noted, drawnId));
}

export async function explain(context: AppContext, c: Context<Env>): Promise<Response> {
  const { explainBook: book, deps } = context;
  const id = c.req.path.slice("/kv/explain/".length);
  const noted = requestOf(context, c, id, "id");
  const otherId = c.req.query("against");
  const other = otherId === undefined ? undefined : requestOf(context, c, otherId, "against");
  const among = book?.engineIdsOf(noted.party) ?? [];
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
    const closest = facts.closest === undefined ? undefined : book?.ofEngineId(facts.closest.id);
    prompts.push(explainPrompt(deps.tokenizer, { index, facts, own: noted, closest }));
  }
  const explanation: Explanation = {
    object: "kv.explanation",
    id: bareId(id),
    engine_started_at: startedAt / 1000,
    is_complete: isComplete,
    prompts,
  };
  return c.json(explanation);
}
