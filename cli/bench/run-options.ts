/** What all runs of a bench have in common. */

import type { HttpClientOptions } from "./http/http-client.ts";
import type { JsonObject } from "./http/json.ts";
import type { SaturationRule } from "./load/saturation.ts";
import type { CacheState, RequestRecord } from "./types.ts";

export interface RunOptions {
  /** Name of the model in the API; empty = the first that the server lists. */
  readonly model: string;
  /** Sent with each request. */
  readonly headers: Readonly<Record<string, string>>;
  /** Fields of each request: sampling, and the user's own. */
  readonly extraBody: JsonObject;
  readonly countChunks: boolean;
  readonly patience: HttpClientOptions["patience"];
  /** For a server that is started, in milliseconds. */
  readonly readyTimeoutMs: number;
  readonly numWarmups: number;
  /** `auto`: cold for servers that are started, else uncontrolled. */
  readonly cacheState: CacheState | "auto";
  /** Runs end by it, where it is given. */
  readonly saturation?: SaturationRule | undefined;
  readonly countTokens?: ((text: string) => number) | undefined;
  /** Ends what is under way, once it aborts. */
  readonly signal?: AbortSignal | undefined;
  readonly observer?: RunObserver | undefined;
}

/** Is told how a run goes, for a display. */
export interface RunObserver {
  /** `begin` may come again for the next run. */
  begin(label: string, numRequests: number): void;
  sent(): void;
  ended(record: RequestRecord): void;
  end(): void;
}
