/** Errors as OpenAI's clients expect them. */

import type { KvEngineError } from "../errors.ts";

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    /** The field that is wrong. */
    readonly param: string | null;
    readonly code: string;
  };
}

/** The error's shape on the wire, in a response or in a stream. */
export function errorBody(error: KvEngineError): ErrorBody {
  // An error of no class of ours is a bug: its text is for the log, it may name files of this machine.
  const internal = error.code === "internal" && error.cause !== undefined;
  const message = internal ? "internal error; the server's log says more" : error.message;
  return {
    error: {
      message: error.hint === undefined || internal ? message : `${message} (${error.hint})`,
      type: errorType(error),
      param: error.status < 500 ? (error.subject ?? null) : null,
      code: error.code === "unauthorized" ? "invalid_api_key" : error.code,
    },
  };
}

/** A whole response; `headers` are added. */
export function errorResponse(
  error: KvEngineError,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const wait: Record<string, string> =
    error.status === 503 || error.status === 429
      ? { "retry-after": String(error.retryAfter ?? 1) }
      : {};
  const challenge: Record<string, string> =
    error.status === 401 ? { "www-authenticate": "Bearer" } : {};
  return Response.json(errorBody(error), {
    status: error.status,
    headers: { ...wait, ...challenge, ...headers },
  });
}

function errorType(error: KvEngineError): string {
  if (error.status === 401) return "authentication_error";
  if (error.status === 429) return "rate_limit_error";
  return error.status >= 500 ? "server_error" : "invalid_request_error";
}
