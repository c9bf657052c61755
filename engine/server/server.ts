/** The HTTP side: a Hono app over an engine client. */

import { createHash, randomUUID } from "node:crypto";
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { KvEngineError, toKvEngineError } from "../errors.ts";
import { createMetrics } from "../metrics.ts";
import { AccessRecord } from "./access-log.ts";
import { KeyRing } from "./access/api-keys.ts";
import { ANYBODY } from "./access/caller.ts";
import type { AppContext, AppDeps, Env } from "./deps.ts";
import { EXPLAIN_HEADER } from "./explain/asked-request.ts";
import { ExplainBook } from "./explain/explain-book.ts";
import { errorResponse } from "./http-error.ts";
import { QueuePlaces } from "./queue-places.ts";
import { SessionBook } from "./sessions/session-book.ts";
import { ResponseStore } from "./responses/store.ts";
import { methodsOf, nearestPath, ROUTES } from "./routes.ts";
import { Turns } from "./turns.ts";

export type { AppDeps, ServedModel, SpecialTokens } from "./deps.ts";

const DEFAULT_BODY_LIMIT = 16 * 1024 * 1024;
const DEFAULT_STORED_RESPONSES = 1000;
/** Characters of all stored responses together. */
const MAX_STORED_CHARACTERS = 64 * 1024 * 1024;
const DEFAULT_STREAM_TIMES = { keepAlive: 15, slowReader: 120 };
/** Ids of clients are echoed only in this form: a header's and a log's safe characters. */
const REQUEST_ID = /^[\w.:/+=@-]{1,128}$/;
/** Headers that browsers may show to a page. */
const EXPOSED = [
  "x-request-id",
  "x-kvengine-warnings",
  "x-kvengine-timing",
  EXPLAIN_HEADER,
  "x-kvengine-queue-position",
  "retry-after",
];

/** An app without a socket: `app.request()` and `serveHttp` both drive it. */
export function createApp(deps: AppDeps): Hono<Env> {
  const context = createContext(deps);
  const { rootPath = "" } = deps;
  // A proxy may or may not take off the path under which it offers the server.
  const getPath = (request: Request): string => {
    const { pathname } = new URL(request.url);
    return pathname.startsWith(`${rootPath}/`) ? pathname.slice(rootPath.length) : pathname;
  };
  const app = new Hono<Env>(rootPath === "" ? {} : { getPath });
  app.use(async (c, next) => {
    const given = c.req.header("x-request-id");
    const isDrawnId = given === undefined || !REQUEST_ID.test(given);
    const requestId = isDrawnId ? randomUUID() : given;
    c.set("requestId", requestId);
    c.set("isDrawnId", isDrawnId);
    c.set("caller", ANYBODY);
    c.header("x-request-id", requestId);
    const record = new AccessRecord(deps.onAccess, requestId, c.req.method, c.req.path);
    c.set("access", record);
    await next();
    record.entry.status = c.res.status;
    if (!record.isStream) record.write();
  });
  if (deps.corsOrigins !== undefined && deps.corsOrigins.length > 0)
    app.use(cors({ origin: [...deps.corsOrigins], exposeHeaders: EXPOSED }));
  const keys = new KeyRing(deps.apiKeys ?? []);
  for (const { method, path, handler, isOpen } of ROUTES) {
    app.on(method, path, (c) => {
      if (isOpen !== true && !keys.isEmpty) {
        const caller = keys.find(c.req.header("authorization"));
        c.set("caller", caller);
        c.get("access").entry.key = caller.name;
      }
      return handler(context, c);
    });
  }
  app.notFound((c) => {
    // Who has no key does not learn what there is.
    if (!keys.isEmpty && c.req.path.startsWith("/v1/")) keys.find(c.req.header("authorization"));
    throw noRoute(c.req.method, c.req.path);
  });
  app.onError((thrown, c) => fail(context, c, toKvEngineError(thrown)));
  return app;
}

function createContext(deps: AppDeps): AppContext {
  const { client, model, maxQueued = Number.POSITIVE_INFINITY } = deps;
  let stopped: KvEngineError | undefined;
  client.onFatal(({ message }) => {
    stopped = new KvEngineError("unavailable", `the engine has stopped: ${message}`, {
      hint: "start the server again",
    });
  });
  const identity = [deps.version, model.name, client.info.backend].join("\n");
  const checkServing = (): void => {
    if (stopped !== undefined) throw stopped;
    if (deps.isDraining?.() === true) {
      throw new KvEngineError(
        "unavailable",
        "the server is shutting down and takes no new requests",
      );
    }
  };
  let lastId = 0;
  const places = new QueuePlaces();
  return {
    deps,
    metrics: deps.metrics ?? createMetrics(client, model.name, deps.tracing),
    fingerprint: `fp_${createHash("sha256").update(identity).digest("hex").slice(0, 10)}`,
    explainBook: deps.explains === false ? undefined : new ExplainBook(),
    sessionBook: new SessionBook(),
    bodyLimit: deps.bodyLimit ?? DEFAULT_BODY_LIMIT,
    created: Math.floor(Date.now() / 1000),
    responses: new ResponseStore({
      maxResponses: deps.maxStoredResponses ?? DEFAULT_STORED_RESPONSES,
      maxCharacters: MAX_STORED_CHARACTERS,
    }),
    places,
    turns: new Turns(),
    streamTimes: deps.streamTimes ?? DEFAULT_STREAM_TIMES,
    nextId: () => ++lastId,
    checkServing,
    admit(c): void {
      checkServing();
      c.get("caller").checkRate();
      const { waiting } = client.stats();
      if (waiting < maxQueued) return;
      c.header("x-kvengine-queue-position", String(waiting + 1));
      throw new KvEngineError(
        "too_many_requests",
        `${waiting} requests are waiting already, and at most ${maxQueued} may; this one would be number ${waiting + 1}`,
        { retryAfter: places.secondsAt(waiting + 1) },
      );
    },
  };
}

/** An error for a request that no route takes: a wrong method, or no such path. */
function noRoute(method: string, path: string): KvEngineError {
  const shown = path.length > 100 ? `${path.slice(0, 100)}…` : path;
  const methods = methodsOf(path);
  if (methods.length > 0) {
    const allowed = methods.join(", ");
    return new KvEngineError(
      "method_not_allowed",
      `${method} is not allowed on ${shown}; allowed is ${allowed}`,
    );
  }
  return new KvEngineError("not_found", `there is no ${shown}`, { hint: nearestPath(path) });
}

/** Middleware's headers stay: a browser reads an error only with the CORS ones. */
function fail(context: AppContext, c: Context<Env>, error: KvEngineError): Response {
  if (error.code === "internal") context.deps.onError?.(error, c.get("requestId"));
  const allow: Record<string, string> =
    error.code === "method_not_allowed" ? { allow: methodsOf(c.req.path).join(", ") } : {};
  const response = errorResponse(error, allow);
  return c.newResponse(response.body, response);
}
