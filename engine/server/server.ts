/** The HTTP side: a Hono app over an engine client, and the one place that listens. */

import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { KvEngineError, toKvEngineError } from "../errors.ts";
import { createMetrics } from "../metrics.ts";
import { chatCompletions } from "./chat-completions.ts";
import { completions } from "./completions.ts";
import type { AppContext, AppDeps, Bindings, Env } from "./deps.ts";
import { EXPLAIN_HEADER, explain } from "./explain/endpoint.ts";
import { ExplainBook } from "./explain/explain-book.ts";
import { errorResponse } from "./http-error.ts";
import { health, listModels, metrics, resetPrefixCache, retrieveModel, version } from "./models.ts";
import { nearest } from "../nearest.ts";

export type { AppDeps, ServedModel, SpecialTokens } from "./deps.ts";

const DEFAULT_BODY_LIMIT = 16 * 1024 * 1024;
/** Ids of clients are echoed only in this form: a header's and a log's safe characters. */
const REQUEST_ID = /^[\w.:/+=@-]{1,128}$/;

type Handler = (context: AppContext, c: Context<Env>) => Response | Promise<Response>;

const ROUTES: readonly (readonly [method: "GET" | "POST", path: string, handler: Handler])[] = [
  ["POST", "/v1/chat/completions", chatCompletions],
  ["POST", "/v1/completions", completions],
  ["GET", "/v1/models", listModels],
  ["GET", "/v1/models/*", retrieveModel],
  ["GET", "/health", health],
  ["GET", "/ping", health],
  ["GET", "/version", version],
  ["GET", "/metrics", metrics],
  ["POST", "/reset_prefix_cache", resetPrefixCache],
  ["GET", "/kv/explain/*", explain],
];

/** What asks for an API key where there are any. */
const LOCKED = ["/v1/*", "/reset_prefix_cache", "/kv/*"];

/** An app without a socket: `app.request()` and `serveHttp` both drive it. */
export function createApp(deps: AppDeps): Hono<Env> {
  const context = createContext(deps);
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    const given = c.req.header("x-request-id");
    const isDrawnId = given === undefined || !REQUEST_ID.test(given);
    const requestId = isDrawnId ? randomUUID() : given;
    c.set("requestId", requestId);
    c.set("isDrawnId", isDrawnId);
    c.header("x-request-id", requestId);
    await next();
  });
  if (deps.corsOrigins !== undefined && deps.corsOrigins.length > 0) {
    app.use(
      cors({
        origin: [...deps.corsOrigins],
        exposeHeaders: ["x-request-id", "x-kvengine-warnings", EXPLAIN_HEADER],
      }),
    );
  }
  const checkKey = keyCheck(deps.apiKeys ?? []);
  for (const path of LOCKED) {
    app.use(path, async (c, next) => {
      checkKey(c.req.header("authorization"));
      await next();
    });
  }
  for (const [method, path, handler] of ROUTES) app.on(method, path, (c) => handler(context, c));

  app.notFound((c) => fail(context, c, noRoute(c.req.method, c.req.path)));
  app.onError((thrown, c) => fail(context, c, toKvEngineError(thrown)));
  return app;
}

function createContext(deps: AppDeps): AppContext {
  const { client, model } = deps;
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
  return {
    deps,
    metrics: deps.metrics ?? createMetrics(client, model.name),
    fingerprint: `fp_${createHash("sha256").update(identity).digest("hex").slice(0, 10)}`,
    explainBook: deps.explains === false ? undefined : new ExplainBook(),
    bodyLimit: deps.bodyLimit ?? DEFAULT_BODY_LIMIT,
    created: Math.floor(Date.now() / 1000),
    nextId: () => ++lastId,
    checkServing,
    admit(): void {
      checkServing();
      if (deps.maxQueued !== undefined && client.stats().waiting >= deps.maxQueued) {
        throw new KvEngineError(
          "too_many_requests",
          `${client.stats().waiting} requests are waiting already`,
        );
      }
    },
  };
}

/** Digests are compared, so that the time tells neither a key's length nor how much of it was right. */
function keyCheck(apiKeys: readonly string[]): (authorization: string | undefined) => void {
  const digest = (key: string): Buffer => createHash("sha256").update(key).digest();
  if (apiKeys.includes(""))
    throw new KvEngineError("bad_config", "an API key is empty", { subject: "api-key" });
  const digests = apiKeys.map(digest);
  return (authorization) => {
    if (digests.length === 0) return;
    const given = digest(/^Bearer +(.*)$/i.exec(authorization ?? "")?.[1] ?? "");
    const matches = digests.filter((known) => timingSafeEqual(known, given));
    if (matches.length > 0) return;
    throw new KvEngineError(
      "unauthorized",
      authorization === undefined ? "no API key was given" : "this API key is not valid",
      {
        hint: "send the header Authorization: Bearer <key>",
      },
    );
  };
}

/** An error for a request that no route takes: a wrong method, or no such path. */
function noRoute(method: string, path: string): KvEngineError {
  const shown = path.length > 100 ? `${path.slice(0, 100)}…` : path;
  const allowed = allowedMethods(path);
  if (allowed !== "") {
    return new KvEngineError(
      "method_not_allowed",
      `${method} is not allowed on ${shown}; allowed is ${allowed}`,
    );
  }
  const paths = ROUTES.map(([, route]) => route).filter((route) => !route.endsWith("*"));
  const near = nearest(path, paths);
  const hint = near === undefined ? `there are ${paths.join(", ")}` : `the nearest is ${near}`;
  return new KvEngineError("not_found", `there is no ${shown}`, { hint });
}

function allowedMethods(path: string): string {
  return ROUTES.filter(
    ([, route]) => route === path || (route.endsWith("*") && path.startsWith(route.slice(0, -1))),
  )
    .map(([method]) => method)
    .join(", ");
}

/** Middleware's headers stay: a browser reads an error only with the CORS ones. */
function fail(context: AppContext, c: Context<Env>, error: KvEngineError): Response {
  if (error.code === "internal") context.deps.onError?.(error, c.get("requestId"));
  const allow: Record<string, string> =
    error.code === "method_not_allowed" ? { allow: allowedMethods(c.req.path) } : {};
  const response = errorResponse(error, allow);
  return c.newResponse(response.body, response);
}

export interface HttpServer {
  readonly url: string;
  /** Stops listening; with `force`, open connections are cut, else they may end. */
  stop(force?: boolean): Promise<void>;
}

/** Stops listening; answers under way have `ms` to reach their clients before connections are cut. */
export async function stopWithin(server: HttpServer, ms: number): Promise<void> {
  const { promise: passed, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([server.stop(), passed]);
  clearTimeout(timer);
  await server.stop(true);
}

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
}

/** Listens. Throws `port_in_use`, or `bad_config` for an address that is not this machine's. */
export function serveHttp(
  app: Pick<Hono<Env>, "fetch">,
  { host, port }: ListenOptions,
): HttpServer {
  try {
    const server = Bun.serve({
      hostname: host,
      port,
      // Seconds; for connections between requests and for bodies that stop coming. A request under way lifts it.
      idleTimeout: 60,
      // The app bounds bodies itself, with an answer that says so.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch(request, listener) {
        const bindings: Bindings = { keepOpen: () => listener.timeout(request, 0) };
        return app.fetch(request, bindings);
      },
    });
    return {
      url: server.url.href.replace(/\/$/, ""),
      stop: (force = false) => server.stop(force),
    };
  } catch (error) {
    throw listenError(error, host, port);
  }
}

function listenError(error: unknown, host: string, port: number): KvEngineError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") {
    return new KvEngineError("port_in_use", `port ${port} of ${host} is in use`, {
      subject: "port",
      hint: "stop the other program, or choose another with --port (0 = any free one)",
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new KvEngineError("bad_config", `cannot listen on ${host}:${port}: ${message}`, {
    subject: "host",
    hint: "use an address of this machine: 127.0.0.1, or 0.0.0.0 for every network",
    cause: error,
  });
}
