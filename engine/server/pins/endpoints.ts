/** POST /kv/pin, DELETE /kv/pin/{id}, GET /kv/pins: prompts whose KV is to stay in the host's pages for a while. */

import { randomUUID } from "node:crypto";
import type { Context } from "hono";
import { epochMs } from "../../epoch.ts";
import { KvEngineError } from "../../errors.ts";
import { readJsonBody } from "../body.ts";
import type { AppContext, Env } from "../deps.ts";
import { requestOf } from "../explain/asked-request.ts";
import { checkFields } from "../schema-check.ts";
import {
  budgetJson,
  PIN_SCHEMA,
  type PinAnswerJson,
  pinJson,
  type PinListJson,
} from "./pin-json.ts";

const DEFAULT_TTL = 3600;

/** The prompt of an answered request, named by its id: who knows that may pin it. */
export async function pinPrompt(context: AppContext, c: Context<Env>): Promise<Response> {
  context.checkServing();
  const body = await readJsonBody(context, c.req.raw);
  const { id, tokens, ttl } = checkFields(PIN_SCHEMA, body);
  const [request] = requestOf(context, c, id, "id").engineIds;
  const answer = await context.deps.client.pin({
    kind: "add",
    owner: c.get("caller").name,
    pin: `pin-${randomUUID()}`,
    request: request ?? "",
    ...(tokens === null || tokens === undefined ? {} : { tokens }),
    ttlMs: (ttl ?? DEFAULT_TTL) * 1000,
  });
  return c.json(pinOf(answer));
}

export async function unpin(context: AppContext, c: Context<Env>): Promise<Response> {
  const pin = c.req.path.slice("/kv/pin/".length);
  const owner = c.get("caller").name;
  return c.json(pinOf(await context.deps.client.pin({ kind: "remove", owner, pin })));
}

/** Those of the caller's API key. */
export async function listPins(context: AppContext, c: Context<Env>): Promise<Response> {
  const owner = c.get("caller").name;
  const answer = await context.deps.client.pin({ kind: "list", owner });
  const now = epochMs();
  const list: PinListJson = {
    object: "list",
    data: answer.pins.map((pin) => pinJson(pin, now)),
    ...budgetJson(answer),
  };
  return c.json(list);
}

type Answer = Awaited<ReturnType<AppContext["deps"]["client"]["pin"]>>;

function pinOf(answer: Answer): PinAnswerJson {
  const [pin] = answer.pins;
  if (pin === undefined) throw new KvEngineError("internal", "the engine answered without a pin");
  return { ...pinJson(pin, epochMs()), ...budgetJson(answer) };
}
