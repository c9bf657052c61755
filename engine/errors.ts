/** The one error class. Its code decides the HTTP status and the exit code; its message names the subject. */

const STATUS = {
  /** A parameter is wrong; `subject` is its name. */
  invalid_request: 400,
  /** The prompt and `max_tokens` cannot fit, whatever else runs. */
  context_length_exceeded: 400,
  /** No API key, or one that is not served. */
  unauthorized: 401,
  not_found: 404,
  model_not_found: 404,
  method_not_allowed: 405,
  payload_too_large: 413,
  /** More requests wait than the queue may hold, or more come than an API key may send. */
  too_many_requests: 429,
  /** A request ran longer than the server lets it, or its client reads too slowly. */
  timeout: 504,
  /** A flag, variable or config file is wrong; only at start-up. */
  bad_config: 400,
  /** A model file is missing, cut off or malformed. */
  bad_model: 422,
  /** No kernel, no architecture or no feature for this. */
  unsupported: 422,
  /** A download or a source failed. */
  download_failed: 502,
  port_in_use: 500,
  out_of_memory: 503,
  /** The device has failed for good; the process ends by it. */
  device_lost: 503,
  /** A connector's code does not return; the process ends by it. */
  connector_hung: 500,
  /** Draining, or the engine has stopped. */
  unavailable: 503,
  internal: 500,
} as const;

export type ErrorCode = keyof typeof STATUS;

export interface ErrorDetails {
  /** The field, flag, tensor or file that is wrong. */
  readonly subject?: string;
  /** What to do next. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Seconds after which the same may be tried again. */
  readonly retryAfter?: number;
}

export class KvEngineError extends Error {
  readonly code: ErrorCode;
  readonly subject: string | undefined;
  readonly hint: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "KvEngineError";
    this.code = code;
    this.subject = details.subject;
    this.hint = details.hint;
    this.retryAfter = details.retryAfter;
  }

  get status(): number {
    return STATUS[this.code];
  }
}

/** The error itself, or any other thrown value as an `internal` one that keeps it as its cause. */
export function toKvEngineError(thrown: unknown): KvEngineError {
  if (thrown instanceof KvEngineError) return thrown;
  return new KvEngineError("internal", messageOf(thrown), { cause: thrown });
}

/** What a thrown value says: an error's message, or the value as text. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Plain data that crosses threads and the native edge. */
export interface ErrorData {
  readonly code: string;
  readonly message: string;
  readonly subject?: string | undefined;
  readonly hint?: string | undefined;
}

export function errorToData(error: KvEngineError): ErrorData {
  return { code: error.code, message: error.message, subject: error.subject, hint: error.hint };
}

export function errorFromData(data: ErrorData): KvEngineError {
  const code = data.code in STATUS ? (data.code as ErrorCode) : "internal";
  return new KvEngineError(code, data.message, {
    ...(data.subject === undefined ? {} : { subject: data.subject }),
    ...(data.hint === undefined ? {} : { hint: data.hint }),
  });
}
