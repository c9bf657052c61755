/** The few requests that a bench makes beside its load: what is this, reset the cache, read the counters. */

import { errorMessage } from "./answer-stream.ts";
import { unreachable } from "./failure.ts";
import { parseJson } from "./json.ts";

/** Where a server is and what it must be told with each request. */
export interface Endpoint {
  /** Up to and without `/v1`, without a slash at the end. */
  readonly baseUrl: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface ControlAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Undefined where the body is none. */
  readonly json: unknown;
}

/** Milliseconds until a control request is given up. */
const TIMEOUT_MS = 10_000;

/** Rejects with `UnreachableError` when there is no answer, whatever the reason. */
export async function control(
  { baseUrl, headers }: Endpoint,
  method: "GET" | "POST",
  path: string,
): Promise<ControlAnswer> {
  try {
    const response = await fetch(baseUrl + path, {
      method,
      headers: { ...headers },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "manual",
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: parseJson(text) };
  } catch (cause) {
    throw unreachable(baseUrl, cause);
  }
}

/** `404: there is no /props`, for messages. */
export function describeAnswer({ status, json, text }: ControlAnswer): string {
  return `${status}${text === "" ? "" : `: ${errorMessage(json ?? text)}`}`;
}
