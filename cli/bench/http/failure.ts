/** What can go wrong with a request, in words. */

/** How long a target may be silent, in milliseconds. */
export interface Patience {
  /** Until the connection stands. */
  readonly connectMs: number;
  /** From the request to the first chunk with output: long queues are no failure. */
  readonly firstChunkMs: number;
  /** Between two pieces of the stream. */
  readonly stallMs: number;
}

export const PATIENCE: Patience = { connectMs: 10_000, firstChunkMs: 600_000, stallMs: 120_000 };

/** Nothing answers at the address. */
export class UnreachableError extends Error {}

/** The connection ended before the response did. */
export class ConnectionLost extends Error {
  /** Nothing of a response had come: the request may be sent again on another connection. */
  readonly beforeResponse: boolean;

  constructor(beforeResponse: boolean, cause?: unknown) {
    const what = beforeResponse ? "before an answer came" : "in the middle of the answer";
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    super(`the connection ended ${what}${why}`, { cause });
    this.beforeResponse = beforeResponse;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the host's name cannot be looked up",
  ETIMEDOUT: "timed out",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no network",
};

export function unreachable(address: string, cause: unknown): UnreachableError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const message = cause instanceof Error ? cause.message : String(cause);
  return new UnreachableError(`cannot connect to ${address}: ${REASONS[code] ?? message}`, {
    cause,
  });
}

export function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(ms < 1000 ? 3 : 1))} s`;
}
