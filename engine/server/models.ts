/** GET /v1/models, /v1/models/:id, /health, /ping, /version, /metrics; POST /reset_prefix_cache */

import type { Context } from "hono";
import { KvEngineError } from "../errors.ts";
import type { AppContext, Env } from "./deps.ts";
import { checkModel } from "./respond.ts";

interface ModelJson {
  readonly id: string;
  readonly object: "model";
  /** Seconds since the epoch at which this server began. */
  readonly created: number;
  readonly owned_by: "kvengine";
  /** The model behind an alias. */
  readonly root: string;
  readonly parent: null;
  /** Most tokens of prompt and output together. */
  readonly max_model_len: number;
}

const FLAGS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["false", false],
  ["0", false],
]);

export function listModels(context: AppContext, c: Context<Env>): Response {
  const { name, aliases = [] } = context.deps.model;
  return c.json({ object: "list", data: [name, ...aliases].map((id) => modelJson(context, id)) });
}

/** The id may hold slashes, as names of Hugging Face repositories do. */
export function retrieveModel(context: AppContext, c: Context<Env>): Response {
  const id = decodeId(c.req.path.slice("/v1/models/".length));
  checkModel(context, id);
  return c.json(modelJson(context, id));
}

/** Whether requests are taken (a router sends none while it is 503), and how far the host's memory for KV is. */
export function health(context: AppContext, c: Context<Env>): Response {
  context.checkServing();
  const { client } = context.deps;
  const { hostPool } = client.stats();
  const report = { status: "ok", backend: client.info.backend };
  if (hostPool === undefined) return c.json(report);
  const { numPages, numReady, isGrowing } = hostPool;
  const state = isGrowing ? "growing" : "ready";
  return c.json({ ...report, host_pool: { state, pages: numPages, pages_ready: numReady } });
}

export function version(context: AppContext, c: Context<Env>): Response {
  return c.json({ version: context.deps.version });
}

export async function metrics(context: AppContext, c: Context<Env>): Promise<Response> {
  return c.body(await context.metrics.text(), 200, { "content-type": context.metrics.contentType });
}

/**
 * From here on no request finds KV that was computed before; those that run keep what they have. With `?reset_external=false` copies that
 * connectors keep stay, and may be brought back.
 */
export async function resetPrefixCache(context: AppContext, c: Context<Env>): Promise<Response> {
  const given = c.req.query("reset_external") ?? "true";
  const resetExternal = FLAGS.get(given.toLowerCase());
  if (resetExternal === undefined) {
    throw new KvEngineError(
      "invalid_request",
      `reset_external is ${JSON.stringify(given.slice(0, 40))}; allowed is true and false`,
      { subject: "reset_external" },
    );
  }
  await context.deps.client.resetPrefixCache({ resetExternal });
  return c.json({});
}

function modelJson(context: AppContext, id: string): ModelJson {
  return {
    id,
    object: "model",
    created: context.created,
    owned_by: "kvengine",
    root: context.deps.model.name,
    parent: null,
    max_model_len: context.deps.client.info.maxModelLen,
  };
}

function decodeId(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch (error) {
    throw new KvEngineError(
      "model_not_found",
      "the model's name in the path is not valid percent-encoding",
      {
        subject: "model",
        cause: error,
      },
    );
  }
}
