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
  const { path, query = {}, method = "GET", body, schema, apiKey } = call;
  const url = new URL(path, readUrl(call.url));
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const headers: Record<string, string> =
    apiKey === "" ? {} : { authorization: `Bearer ${apiKey}` };
  let response: Response;
  let answer: unknown;
  try {
    response = await fetch(url, {
      method,
      headers: {
        ...headers,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    answer = await response.json();
  } catch (cause) {
    throw new KvEngineError("unavailable", `${url.origin} does not answer as kvengine does`, {
      subject: "--url",
      hint: "name the address of a running `kvengine serve` with --url",
      cause,
    });
  }
  const read = schema.safeParse(answer);
  if (response.ok && read.success) return read.data;
  throw refusalOf(response.status, answer);
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
