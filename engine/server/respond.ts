/** What both completion endpoints do once their sequences are checked. */

import type { Context } from "hono";
import { KvEngineError } from "../errors.ts";
import type { AppContext, Env } from "./deps.ts";
import type { Generation } from "./generation.ts";
import type { CompletionOptions } from "./openai.ts";
import { type FrameWriter, streamResponse, whenGone } from "./sse.ts";

export interface Forms {
  writer(): FrameWriter;
  whole(): Promise<object>;
}

/** Streams or waits, as the client asked; a client that goes away aborts its sequences. */
export async function respond(
  context: AppContext,
  c: Context<Env>,
  generation: Generation,
  options: CompletionOptions,
  forms: Forms,
): Promise<Response> {
  c.env?.keepOpen?.();
  if (options.ignored.length > 0)
    c.header("x-kvengine-warnings", `ignored: ${options.ignored.join(", ")}`);
  const { signal } = c.req.raw;
  generation.start();
  if (options.stream) {
    const response = streamResponse(generation, forms.writer(), signal, (error) => {
      if (error.status >= 500) context.deps.onError?.(error, c.get("requestId"));
    });
    return c.newResponse(response.body, response);
  }
  const release = whenGone(signal, () => generation.abort());
  try {
    return c.json(await forms.whole());
  } finally {
    release();
  }
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
