/** A call of a running server's own endpoints: its answer, checked, or its refusal as an error. */

import type { z } from "zod";
import { KvEngineError } from "../engine/errors.ts";
import { asObject, asText } from "./bench/http/json.ts";

export interface ServerCall<T> {
  /** `--url` as it was written. */
  readonly url: string;
  readonly apiKey: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly method?: "GET" | "POST" | "DELETE";
  readonly body?: object;
  readonly schema: z.ZodType<T>;
}

/** Throws `bad_config` for an address that is none, `unavailable` where nobody answers, and what the server refuses. */
export async function callServer<T>(call: ServerCall<T>): Promise<T> {
  const response = await openCall(call);
  const read = call.schema.safeParse(await answerOf(response));
  if (read.success) return read.data;
  throw notOurs(new URL(response.url).origin);
}

/** The answer of a call, which is not refused, unread. `body`: JSON, or the bytes of a stream. Throws as `callServer`. */
export async function openCall(
  call: Omit<ServerCall<unknown>, "schema" | "body"> & {
    readonly body?: object | ReadableStream<Uint8Array>;
  },
): Promise<Response> {
  const { path, query = {}, method = "GET", body, apiKey } = call;
  const url = new URL(path, readUrl(call.url));
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const headers: Record<string, string> =
    apiKey === "" ? {} : { authorization: `Bearer ${apiKey}` };
  const isStream = body instanceof ReadableStream;
  const type = isStream ? "application/octet-stream" : "application/json";
  let response: Response;
  try {
    response = await fetch(url, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "content-type": type }) },
      ...(body === undefined ? {} : { body: isStream ? body : JSON.stringify(body) }),
    });
  } catch (cause) {
    throw notOurs(url.origin, cause);
  }
  if (response.ok) return response;
  throw refusalOf(response.status, await answerOf(response));
}

async function answerOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch (cause) {
    throw notOurs(new URL(response.url).origin, cause);
  }
}

function notOurs(origin: string, cause?: unknown): KvEngineError {
  return new KvEngineError("unavailable", `${origin} does not answer as kvengine does`, {
    subject: "--url",
    hint: "name the address of a running `kvengine serve` with --url",
    ...(cause === undefined ? {} : { cause }),
  });
}

function readUrl(text: string): URL {
  const url = URL.parse(text);
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new KvEngineError("bad_config", `--url is ${JSON.stringify(text)}; allowed is an address`, {
    subject: "--url",
    hint: "an example is `--url http://127.0.0.1:8000`",
  });
}

/** What the server says; its words are for people already. */
function refusalOf(status: number, answer: unknown): KvEngineError {
  const message = asText(asObject(asObject(answer)?.["error"])?.["message"]);
  const text = message ?? `the server answered with status ${status}`;
  if (status === 401) return new KvEngineError("unauthorized", text);
  if (status === 404) return new KvEngineError("not_found", text);
  return new KvEngineError(status < 500 ? "invalid_request" : "unavailable", text);
}
