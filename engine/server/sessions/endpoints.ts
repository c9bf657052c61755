/** GET /kv/sessions, POST /kv/sessions/freeze, …/thaw, …/export, …/import: the KV of conversations, kept and carried elsewhere. */

import type { Context } from "hono";
import { epochMs } from "../../epoch.ts";
import { KvEngineError } from "../../errors.ts";
import { readJsonBody } from "../body.ts";
import type { AppContext, Env } from "../deps.ts";
import { requestOf } from "../explain/asked-request.ts";
import { wrong } from "../field-checks.ts";
import { checkFields, checkValue } from "../schema-check.ts";
import { receiveFile, sendFile, withFile } from "./session-transfer.ts";
import {
  FREEZE_SCHEMA,
  IMPORT_SCHEMA,
  SESSION_SCHEMA,
  type SessionJson,
  type SessionRequest,
  sessionsJson,
} from "./session-json.ts";

const DEFAULT_TTL = 86_400;

export async function listSessions(context: AppContext, c: Context<Env>): Promise<Response> {
  const owner = c.get("caller").name;
  const named = context.sessionBook.of(owner);
  const answer = await context.deps.client.session({ kind: "list", owner, named });
  return c.json({ object: "list", data: sessionsJson(answer, epochMs()) });
}

export async function freezeSession(context: AppContext, c: Context<Env>): Promise<Response> {
  context.checkServing();
  c.env?.keepOpen?.();
  const body = await readJsonBody(context, c.req.raw);
  const asked = checkFields(FREEZE_SCHEMA, body);
  const ttlMs = (asked.ttl ?? DEFAULT_TTL) * 1000;
  return c.json(
    only(await context.deps.client.session({ kind: "freeze", ttlMs, ...named(context, c, asked) })),
  );
}

export async function thawSession(context: AppContext, c: Context<Env>): Promise<Response> {
  context.checkServing();
  c.env?.keepOpen?.();
  const body = await readJsonBody(context, c.req.raw);
  const asked = checkFields(SESSION_SCHEMA, body);
  return c.json(
    only(await context.deps.client.session({ kind: "thaw", ...named(context, c, asked) })),
  );
}

/** The answer is the file. */
export async function exportSession(context: AppContext, c: Context<Env>): Promise<Response> {
  context.checkServing();
  c.env?.keepOpen?.();
  const body = await readJsonBody(context, c.req.raw);
  const which = named(context, c, checkFields(SESSION_SCHEMA, body));
  return sendFile(async (path) => {
    await context.deps.client.session({ kind: "export", path, ...which });
    // From here on the client is waited for.
    c.env?.closeIdle?.();
  });
}

/** The body is the file; the rest is in the address. */
export async function importSession(context: AppContext, c: Context<Env>): Promise<Response> {
  context.checkServing();
  const caller = c.get("caller");
  const { session, ttl, cache_salt: salt } = checkValue(IMPORT_SCHEMA, c.req.query(), []);
  if (caller.name !== "" && caller.cacheSalt(undefined) === undefined) {
    throw new KvEngineError(
      "unsupported",
      "this API key shares cached KV with others, who would get what the file says",
      { hint: "give the key a cache salt of its own" },
    );
  }
  const owner = caller.name;
  const { mostBytes } = await context.deps.client.session({ kind: "room", owner });
  const cacheSalt = caller.cacheSalt(salt);
  return withFile(async ({ handle, path }) => {
    await receiveFile(c.req.raw, handle, mostBytes);
    c.env?.keepOpen?.();
    const answer = await context.deps.client.session({
      kind: "import",
      ...{ owner, path, ttlMs: (ttl ?? DEFAULT_TTL) * 1000 },
      ...(session === undefined || session === null ? {} : { session }),
      ...(cacheSalt === undefined ? {} : { cacheSalt }),
    });
    return c.json(only(answer));
  });
}

interface Which {
  readonly owner: string;
  readonly session: string;
  readonly request?: string;
}

/** Sessions are those of the caller's API key; an answer is named by its id, by those who know it. */
function named(context: AppContext, c: Context<Env>, { id, session }: SessionRequest): Which {
  const owner = c.get("caller").name;
  if (id !== undefined && id !== null) {
    const [request] = requestOf(context, c, id, "id").engineIds;
    const name = session ?? id;
    // From here on it has a name.
    context.sessionBook.note(owner, name, request);
    context.metrics.namedSessions(context.sessionBook.size);
    return { owner, session: name, ...(request === undefined ? {} : { request }) };
  }
  if (session === undefined || session === null)
    throw wrong("session", session, "the name of a session, or id instead");
  const request = context.sessionBook.requestOf(owner, session);
  return { owner, session, ...(request === undefined ? {} : { request }) };
}

function only(answer: Awaited<ReturnType<AppContext["deps"]["client"]["session"]>>): SessionJson {
  const [session] = sessionsJson(answer, epochMs());
  if (session === undefined)
    throw new KvEngineError("internal", "the engine answered without a session");
  return session;
}
