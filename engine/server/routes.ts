/** What the server answers, and under which paths. `/openapi.json` is made from it. */

import type { Context } from "hono";
import type { z } from "zod";
import { nearest } from "../nearest.ts";
import { chatCompletions } from "./chat-completions.ts";
import { completions } from "./completions.ts";
import type { AppContext, Env } from "./deps.ts";
import { DOCS_PAGE } from "./docs-page.ts";
import { explain } from "./explain/endpoint.ts";
import { load } from "./load-report.ts";
import { health, listModels, metrics, resetPrefixCache, retrieveModel, version } from "./models.ts";
import { describeApi } from "./openapi.ts";
import { CHAT_SCHEMA, COMPLETION_SCHEMA } from "./openai.ts";
import { listPins, pinPrompt, unpin } from "./pins/endpoints.ts";
import { PIN_SCHEMA } from "./pins/pin-json.ts";
import { renderChatCompletion, renderCompletion } from "./render.ts";
import {
  cancelResponse,
  createResponse,
  deleteResponse,
  listInputItems,
  retrieveResponse,
} from "./responses/endpoints.ts";
import { RESPONSES_SCHEMA } from "./responses/fields.ts";
import {
  exportSession,
  freezeSession,
  importSession,
  listSessions,
  thawSession,
} from "./sessions/endpoints.ts";
import { FREEZE_SCHEMA, SESSION_SCHEMA } from "./sessions/session-json.ts";
import { detokenize, tokenize, TOKENIZE_SCHEMAS } from "./tokenize.ts";

type Handler = (context: AppContext, c: Context<Env>) => Response | Promise<Response>;

export interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  /** Hono's notation: `:id` is one part, `*` is any number of them. */
  readonly path: string;
  readonly handler: Handler;
  /** For `/docs`. */
  readonly summary: string;
  /** Of the body. */
  readonly schema?: z.ZodType;
  /** Whether anybody may ask, without an API key. */
  readonly isOpen?: true;
}

/** In order: the first that fits is taken. */
const API: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/chat/completions",
    handler: chatCompletions,
    summary: "An answer to a conversation",
    schema: CHAT_SCHEMA,
  },
  {
    method: "POST",
    path: "/v1/chat/completions/render",
    handler: renderChatCompletion,
    summary: "The token ids of a conversation, without an answer",
    schema: CHAT_SCHEMA,
  },
  {
    method: "POST",
    path: "/v1/completions",
    handler: completions,
    summary: "How a text goes on",
    schema: COMPLETION_SCHEMA,
  },
  {
    method: "POST",
    path: "/v1/completions/render",
    handler: renderCompletion,
    summary: "The token ids of prompts, without an answer",
    schema: COMPLETION_SCHEMA,
  },
  {
    method: "POST",
    path: "/v1/responses",
    handler: createResponse,
    summary: "A response, which is kept unless store is false",
    schema: RESPONSES_SCHEMA,
  },
  {
    method: "GET",
    path: "/v1/responses/:id",
    handler: retrieveResponse,
    summary: "A response that is kept",
  },
  {
    method: "DELETE",
    path: "/v1/responses/:id",
    handler: deleteResponse,
    summary: "Forgets a response",
  },
  {
    method: "POST",
    path: "/v1/responses/:id/cancel",
    handler: cancelResponse,
    summary: "Gives up a response that is written in the background",
  },
  {
    method: "GET",
    path: "/v1/responses/:id/input_items",
    handler: listInputItems,
    summary: "What the model was given for a response",
  },
  { method: "GET", path: "/v1/models", handler: listModels, summary: "Names of the model" },
  { method: "GET", path: "/v1/models/*", handler: retrieveModel, summary: "One of them" },
  {
    method: "POST",
    path: "/tokenize",
    handler: tokenize,
    summary: "A text or a conversation as token ids",
    schema: TOKENIZE_SCHEMAS.tokenize,
  },
  {
    method: "POST",
    path: "/detokenize",
    handler: detokenize,
    summary: "Token ids as text",
    schema: TOKENIZE_SCHEMAS.detokenize,
  },
  {
    method: "POST",
    path: "/reset_prefix_cache",
    handler: resetPrefixCache,
    summary: "From here on nothing that was computed before is found",
  },
  {
    method: "GET",
    path: "/kv/explain/*",
    handler: explain,
    summary: "Why the prompt of a request was cached as far as it was",
  },
  {
    method: "POST",
    path: "/kv/pin",
    handler: pinPrompt,
    summary: "Keep the KV of a request's prompt in the host's memory for a while",
    schema: PIN_SCHEMA,
  },
  {
    method: "DELETE",
    path: "/kv/pin/*",
    handler: unpin,
    summary: "End a pin before its time",
  },
  { method: "GET", path: "/kv/pins", handler: listPins, summary: "The prompts that are pinned" },
  {
    method: "GET",
    path: "/kv/sessions",
    handler: listSessions,
    summary: "Conversations that requests have named by session_id, and those that are kept",
  },
  {
    method: "POST",
    path: "/kv/sessions/freeze",
    handler: freezeSession,
    summary: "Keep the KV of a session on the disk, or in the host's memory",
    schema: FREEZE_SCHEMA,
  },
  {
    method: "POST",
    path: "/kv/sessions/thaw",
    handler: thawSession,
    summary: "Bring the KV of a session to the host's memory, and keep it no longer",
    schema: SESSION_SCHEMA,
  },
  {
    method: "POST",
    path: "/kv/sessions/export",
    handler: exportSession,
    summary: "The KV of a session as a file, with token ids and without texts",
    schema: SESSION_SCHEMA,
  },
  {
    method: "POST",
    path: "/kv/sessions/import",
    handler: importSession,
    summary: "Keep the KV of a session from such a file, which is the body",
  },
  {
    method: "GET",
    path: "/health",
    handler: health,
    summary: "Whether requests are taken",
    isOpen: true,
  },
  { method: "GET", path: "/ping", handler: health, summary: "The same", isOpen: true },
  {
    method: "GET",
    path: "/load",
    handler: load,
    summary: "How many sequences run or wait",
    isOpen: true,
  },
  {
    method: "GET",
    path: "/version",
    handler: version,
    summary: "The program's version",
    isOpen: true,
  },
  {
    method: "GET",
    path: "/metrics",
    handler: metrics,
    summary: "Numbers for Prometheus",
    isOpen: true,
  },
];

export const ROUTES: readonly Route[] = [
  ...API,
  {
    method: "GET",
    path: "/openapi.json",
    handler: ({ deps }, c) => c.json(describeApi(API, deps)),
    summary: "What the server understands, for programs",
    isOpen: true,
  },
  {
    method: "GET",
    path: "/docs",
    handler: (_, c) => c.html(DOCS_PAGE),
    summary: "The same, for people",
    isOpen: true,
  },
];

/** Methods that this path takes. */
export function methodsOf(path: string): string[] {
  return ROUTES.filter((route) => patternOf(route.path).test(path)).map(({ method }) => method);
}

/** Words for somebody who asked for a path that there is not. */
export function nearestPath(path: string): string {
  const paths = [...new Set(ROUTES.map((route) => route.path))].filter((one) => !/[*:]/.test(one));
  const near = nearest(path, paths);
  return near === undefined ? `there are ${paths.join(", ")}` : `the nearest is ${near}`;
}

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/:\w+/g, "[^/]+").replace("*", ".+")}$`);
}
