/** What the endpoints that generate do once their sequences are checked. */

import type { Context } from "hono";
import { KvEngineError } from "../errors.ts";
import { timingHeader } from "./answers.ts";
import type { AppContext, Env } from "./deps.ts";
import type { Generation } from "./generation.ts";
import type { CompletionOptions } from "./common-fields.ts";
import { reportLoad } from "./load-report.ts";
import { pinMarked, type RequestPin } from "./pins/pin-marked.ts";
import { type FrameWriter, streamResponse, whenGone } from "./sse.ts";
import { traceAtEnd } from "./tracing/request-trace.ts";

export interface Forms {
  writer(): FrameWriter;
  whole(): Promise<object>;
}

/** Streams or waits, as the client asked; a client that goes away aborts its sequences. */
export async function respond(
  context: AppContext,
  c: Context<Env>,
  generation: Generation,
  options: Pick<CompletionOptions, "stream" | "ignored"> & { readonly pins: readonly RequestPin[] },
  forms: Forms,
): Promise<Response> {
  c.env?.keepOpen?.();
  warn(c, options.ignored);
  const { signal } = c.req.raw;
  const record = c.get("access");
  traceAtEnd(context, c, generation);
  generation.start();
  limitTime(context, generation);
  generation.onEnd(() => (record.entry.usage = generation.usage()));
  reportLoad(context, c);
  if (options.pins.length > 0) await pinMarked(context, c, options.pins);
  if (options.stream) {
    record.isStream = true;
    const response = streamResponse(generation, forms.writer(), signal, {
      times: context.streamTimes,
      onError: (error) => {
        if (error.status >= 500) context.deps.onError?.(error, c.get("requestId"));
      },
      onEnd: (outcome) => {
        if (outcome === "slow") c.env?.closeIdle?.();
        record.entry.outcome = outcome;
        record.write();
      },
    });
    return c.newResponse(response.body, response);
  }
  const release = whenGone(signal, () => generation.abort());
  try {
    const answer = await forms.whole();
    if (generation.timing !== undefined)
      c.header("x-kvengine-timing", timingHeader(generation.timing));
    return c.json(answer);
  } finally {
    release();
  }
}

/** Ends a request that runs for too long. */
export function limitTime(
  { deps: { requestTimeout = 0 } }: AppContext,
  generation: Generation,
): void {
  if (requestTimeout === 0) return;
  const timer = setTimeout(() => {
    const message = `the request has run for ${requestTimeout} s, which is all it gets`;
    generation.cut(new KvEngineError("timeout", message, { hint: "ask for fewer tokens" }));
  }, requestTimeout * 1000);
  generation.onEnd(() => clearTimeout(timer));
}

/** Names in a header the fields that were read past. */
export function warn(c: Context<Env>, ignored: readonly string[]): void {
  if (ignored.length > 0)
    c.header("x-kvengine-warnings", `ignored: ${ignored.map(printable).join(", ")}`);
}

/** A field's name may hold what a header may not. */
function printable(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, "?");
}

/** A request with what the server's own settings add. */
export function asServed<T extends CompletionOptions>({ deps }: AppContext, request: T): T {
  return deps.forceUsage === true ? { ...request, includeUsage: true } : request;
}

/** Throws `model_not_found`. A body without a model means the one that is served. */
export function checkModel(context: AppContext, asked: string | undefined): void {
  const { name, aliases = [] } = context.deps.model;
  if (asked === undefined || asked === name || aliases.includes(asked)) return;
  const served = [name, ...aliases].join(", ");
  const shown = asked.length > 100 ? `${asked.slice(0, 100)}…` : asked;
  throw new KvEngineError(
    "model_not_found",
    `the model ${JSON.stringify(shown)} does not exist; served: ${served}`,
    {
      subject: "model",
    },
  );
}
