/**
 * POSTs over HTTP/1.1 with kept connections. Not `fetch`: Bun's has at most 256 requests in flight, a number that cannot be
 * changed once the program runs, and would count the wait for the others as the server's; nor does it tell connecting from waiting.
 */

import { type Address, type Connection, openConnection } from "./connection.ts";
import { ConnectionLost } from "./failure.ts";
import type { ResponseReader } from "./response-parser.ts";

const ENCODER = new TextEncoder();

export class Transport {
  readonly #address: Address;
  readonly #host: string;
  readonly #basePath: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #connections = new Set<Connection>();
  /** Those that were free when their last request ended; the newest last. */
  readonly #kept: Connection[] = [];

  /** @param headers sent with each request, beside those that HTTP itself needs. */
  constructor(baseUrl: string, headers: Readonly<Record<string, string>>) {
    const url = new URL(baseUrl);
    const tls = url.protocol === "https:";
    // A bracketed IPv6 address is written so in URLs and headers only.
    const hostname = url.hostname.replace(/^\[|\]$/g, "");
    this.#address = { hostname, port: Number(url.port) || (tls ? 443 : 80), tls };
    this.#host = url.host;
    this.#basePath = url.pathname.replace(/\/$/, "");
    this.#headers = headers;
  }

  /**
   * Sends JSON and hands the response over as it comes; resolves at its end. Rejects with `UnreachableError`, `ConnectionLost`,
   * `ProtocolError`, what the reader threw, or the error that `signal` aborted with.
   * @param onConnected the connection stands, the request goes out.
   */
  async post(
    path: string,
    json: string,
    reader: ResponseReader,
    signal: AbortSignal,
    onConnected: () => void,
  ): Promise<void> {
    const request = this.#encode(path, json);
    const kept = this.#takeKept();
    if (kept !== undefined) {
      onConnected();
      const sent = await this.#exchange(kept, request, reader, signal).then(
        () => true,
        (error: unknown) => {
          // The server closed the connection while the request was on its way: it never saw it.
          if (error instanceof ConnectionLost && error.beforeResponse) return false;
          throw error;
        },
      );
      if (sent) return;
    }
    const fresh = await this.#open(signal);
    onConnected();
    await this.#exchange(fresh, request, reader, signal);
  }

  /** Ends all connections. */
  close(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
  }

  #takeKept(): Connection | undefined {
    for (;;) {
      const connection = this.#kept.pop();
      if (connection === undefined || connection.free) return connection;
      this.#connections.delete(connection);
    }
  }

  async #open(signal: AbortSignal): Promise<Connection> {
    const opening = openConnection(this.#address);
    const aborted = whenAborted(signal);
    try {
      const connection = await Promise.race([opening, aborted.promise]);
      this.#connections.add(connection);
      return connection;
    } catch (error) {
      // One that stands too late is of no use; one that failed has nothing to close.
      opening.then(
        (late) => late.close(),
        () => {},
      );
      throw error;
    } finally {
      aborted.release();
    }
  }

  async #exchange(
    connection: Connection,
    request: Uint8Array,
    reader: ResponseReader,
    signal: AbortSignal,
  ): Promise<void> {
    const abort = (): void => connection.close(reasonOf(signal));
    if (signal.aborted) throw reasonOf(signal);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await connection.exchange(request, reader);
    } finally {
      signal.removeEventListener("abort", abort);
      if (connection.free) this.#kept.push(connection);
      else this.#connections.delete(connection);
    }
  }

  #encode(path: string, json: string): Uint8Array {
    const body = ENCODER.encode(json);
    const lines = [
      `POST ${this.#basePath}${path} HTTP/1.1`,
      `host: ${this.#host}`,
      "content-type: application/json",
      "accept: text/event-stream",
      `content-length: ${body.length}`,
      ...Object.entries(this.#headers).map(([name, value]) => `${name}: ${value}`),
    ];
    return Buffer.concat([ENCODER.encode(`${lines.join("\r\n")}\r\n\r\n`), body]);
  }
}

function whenAborted(signal: AbortSignal): { promise: Promise<never>; release: () => void } {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(reasonOf(signal));
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  return { promise, release: () => signal.removeEventListener("abort", abort) };
}

function reasonOf({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
