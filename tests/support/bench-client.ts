/** An HTTP client of the bench against a scripted server, on a virtual clock. */

import { PATIENCE, type Patience } from "../../cli/bench/http/failure.ts";
import { HttpClient } from "../../cli/bench/http/http-client.ts";
import type { JsonObject } from "../../cli/bench/http/json.ts";
import type { ServerKind } from "../../cli/bench/http/target.ts";
import type { OutgoingRequest, Sent } from "../../cli/bench/load/send.ts";
import type { RequestRecord } from "../../cli/bench/types.ts";
import { ScriptedServer } from "./scripted-server.ts";
import { VirtualClock } from "./virtual-clock.ts";

export interface ClientSetup {
  readonly url?: string;
  readonly kind?: ServerKind;
  readonly countChunks?: boolean;
  readonly extra?: JsonObject;
  readonly headers?: Readonly<Record<string, string>>;
  readonly patience?: Partial<Patience>;
  readonly countTokens?: (text: string) => number;
}

export const REQUEST: OutgoingRequest = {
  conversation: "c0",
  turn: 0,
  prompt: { kind: "text", text: "Hello" },
  maxTokens: 3,
  ignoreEos: false,
};

export class TestClient implements Disposable {
  readonly clock: VirtualClock = new VirtualClock();
  readonly server: ScriptedServer = new ScriptedServer();
  /** Times at which first chunks were told of. */
  readonly firstChunks: number[] = [];
  readonly interrupt: AbortController = new AbortController();
  readonly #client: HttpClient;
  #reads = 0;
  #awaited: { readonly reads: number; readonly resolve: () => void } | undefined;

  constructor(setup: ClientSetup = {}) {
    this.#client = new HttpClient(
      {
        baseUrl: setup.url ?? this.server.url,
        headers: setup.headers ?? {},
        body: {
          model: "m",
          kind: setup.kind ?? "unknown",
          countChunks: setup.countChunks ?? true,
          extra: setup.extra ?? {},
        },
        patience: { ...PATIENCE, ...setup.patience },
        countTokens: setup.countTokens,
      },
      this.clock,
    );
  }

  send(request: Partial<OutgoingRequest> = {}): Promise<Sent> {
    return this.#client.send(
      { ...REQUEST, ...request },
      {
        now: () => this.#now(),
        signal: this.interrupt.signal,
        onFirstChunk: () => this.firstChunks.push(this.clock.now()),
      },
    );
  }

  /** Once the client has looked at the clock once more: for what `say` makes come. */
  async read(say: () => void): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#awaited = { reads: this.#reads + 1, resolve };
    say();
    await promise;
  }

  [Symbol.dispose](): void {
    this.#client.close();
    this.server[Symbol.dispose]();
  }

  #now(): number {
    this.#reads++;
    if (this.#awaited !== undefined && this.#reads >= this.#awaited.reads) {
      this.#awaited.resolve();
      this.#awaited = undefined;
    }
    return this.clock.now();
  }
}

/** The event of a completion's chunk. */
export function event(text: string, more: object = {}, choice: object = {}): string {
  return data({ choices: [{ index: 0, text, finish_reason: null, ...choice }], ...more });
}

export function data(value: unknown): string {
  return `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
}

export const DONE: string = data("[DONE]");

export function usage(promptTokens: number, outputTokens: number, more: object = {}): object {
  return {
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: outputTokens,
      total_tokens: promptTokens + outputTokens,
      ...more,
    },
  };
}

/** A stream of which each piece comes at its time, in milliseconds. */
export async function streamed(
  pieces: readonly (readonly [at: number, text: string])[],
  setup: ClientSetup = {},
  request: Parameters<TestClient["send"]>[0] = {},
): Promise<Sent & { readonly firstChunks: readonly number[] }> {
  using client = new TestClient(setup);
  const sent = client.send(request);
  const exchange = await client.server.next();
  exchange.openStream();
  for (const [at, text] of pieces) {
    await client.clock.advance(at - client.clock.now());
    await client.read(() => exchange.chunk(text));
  }
  exchange.endChunks();
  return { ...(await sent), firstChunks: client.firstChunks };
}

export async function recordOf(...args: Parameters<typeof streamed>): Promise<RequestRecord> {
  return (await streamed(...args)).record;
}
