/** What is asked about sessions and what comes back: plain data, which crosses from the HTTP side. */

/** What a session may be called: whoever lists sessions writes names to a terminal. */
export const MAX_SESSION_NAME = 256;
export const SESSION_NAME: RegExp = /^\P{Cc}+$/u;

export function isSessionName(name: string): boolean {
  return name.length <= MAX_SESSION_NAME && SESSION_NAME.test(name) && name.isWellFormed();
}

/** A session that a request has named. */
export interface NamedRequest {
  readonly session: string;
  /** `GenerateRequest.id` of the last one that did. */
  readonly request: string;
}

/** `owner`: sessions are seen and moved by those who have made them. */
export type SessionQuery = { readonly owner: string } &
  /** How large a file could be kept. */
  (
    | { readonly kind: "room" }
    | { readonly kind: "list"; readonly named: readonly NamedRequest[] }
    | {
        readonly kind: "freeze";
        readonly session: string;
        /** The request whose prompt and answer it is; left out = one that was frozen or imported before. */
        readonly request?: string;
        readonly ttlMs: number;
      }
    | { readonly kind: "thaw"; readonly session: string; readonly request?: string }
    | {
        readonly kind: "export";
        readonly session: string;
        readonly request?: string;
        /** File to write: there is none yet. */
        readonly path: string;
      }
    | {
        readonly kind: "import";
        /** Left out = the name in the file. */
        readonly session?: string;
        readonly path: string;
        /** Of the requests that are to find it. */
        readonly cacheSalt?: string;
        readonly ttlMs: number;
      }
  );

export interface SessionFacts {
  readonly name: string;
  /** `live`: it is known, and not kept. `frozen`: it is kept until `msLeft` has passed. `gone`: nothing of its beginning is left anywhere. */
  readonly state: "live" | "frozen" | "gone";
  /** Those in full blocks. */
  readonly numTokens: number;
  /** Leading ones of which KV is left somewhere: what its next request finds at most. */
  readonly numFoundTokens: number;
  /** Pages that these fill, and how many of them are where; one may be in several places. */
  readonly numPages: number;
  readonly onDevice: number;
  readonly inHost: number;
  readonly onDisk: number;
  /** Pages that are kept from being forgotten. */
  readonly numKept: number;
  readonly msLeft: number;
  /** Whether it is known after a restart. */
  readonly survivesRestart: boolean;
}

export interface SessionAnswer {
  /** The one that was moved, or all of them. */
  readonly sessions: readonly SessionFacts[];
  /** Bytes of the largest file that could be kept. */
  readonly mostBytes: number;
}
