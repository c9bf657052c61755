/** One connection, which carries one request at a time. */

import type { Socket } from "bun";
import { ConnectionLost, unreachable, UnreachableError } from "./failure.ts";
import { ResponseParser, type ResponseReader } from "./response-parser.ts";

export interface Address {
  readonly hostname: string;
  readonly port: number;
  readonly tls: boolean;
}

/** Opens a connection. Rejects with `UnreachableError`. */
export async function openConnection({ hostname, port, tls }: Address): Promise<Connection> {
  const connection = new Connection();
  try {
    await Bun.connect({ hostname, port, tls, data: connection, socket: HANDLERS });
  } catch (cause) {
    throw unreachable(`${hostname}:${port}`, cause);
  }
  return connection;
}

const HANDLERS = {
  open(socket: Socket<Connection>): void {
    socket.setNoDelay(true);
    socket.data.opened(socket);
  },
  data(socket: Socket<Connection>, bytes: Buffer): void {
    socket.data.received(bytes);
  },
  drain(socket: Socket<Connection>): void {
    socket.data.flush();
  },
  close(socket: Socket<Connection>, error?: Error): void {
    socket.data.ended(error);
  },
  error(socket: Socket<Connection>, error: Error): void {
    socket.data.ended(error);
  },
  end(socket: Socket<Connection>): void {
    socket.data.ended();
  },
  handshake(socket: Socket<Connection>, _success: boolean, error: Error | null): void {
    if (error !== null)
      socket.data.close(new UnreachableError(`TLS failed: ${error.message}`, { cause: error }));
  },
  // The promise of `Bun.connect` rejects with it.
  connectError(): void {},
};

interface Exchange {
  readonly parser: ResponseParser;
  readonly whole: PromiseWithResolvers<void>;
  /** Bytes of the response have come. */
  answered: boolean;
}

export class Connection {
  #socket: Socket<Connection> | undefined;
  #exchange: Exchange | undefined;
  #unsent: Uint8Array = new Uint8Array(0);
  #open = true;

  /** Whether another request may be sent: it is open and nothing is under way. */
  get free(): boolean {
    return this.#open && this.#exchange === undefined;
  }

  /**
   * Sends a request and reads its response, up to its end. Rejects with `ConnectionLost`, or with what the reader or the protocol
   * threw; the connection is closed then.
   */
  async exchange(request: Uint8Array, reader: ResponseReader): Promise<void> {
    if (!this.#open) throw new ConnectionLost(true);
    const exchange: Exchange = {
      parser: new ResponseParser(reader),
      whole: Promise.withResolvers(),
      answered: false,
    };
    this.#exchange = exchange;
    this.#unsent = request;
    this.flush();
    await exchange.whole.promise;
  }

  /** Ends it now. An exchange under way rejects with `error`. */
  close(error: Error = new ConnectionLost(false)): void {
    this.#fail(error);
    this.#open = false;
    this.#socket?.terminate();
  }

  opened(socket: Socket<Connection>): void {
    this.#socket = socket;
  }

  /** Writes what the socket takes; it says when it takes more. */
  flush(): void {
    if (this.#socket === undefined || this.#unsent.length === 0) return;
    const written = this.#socket.write(this.#unsent);
    if (written > 0) this.#unsent = this.#unsent.subarray(written);
  }

  received(bytes: Buffer): void {
    const exchange = this.#exchange;
    // Between requests a server has nothing to say: whatever it says, the connection is of no use any more.
    if (exchange === undefined) return this.close();
    exchange.answered = true;
    try {
      exchange.parser.push(bytes);
    } catch (thrown) {
      this.close(thrown instanceof Error ? thrown : new Error(String(thrown)));
      return;
    }
    if (exchange.parser.done) this.#complete(exchange);
  }

  /** The other side has ended the connection. */
  ended(cause?: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#socket?.end();
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    if (cause === undefined && exchange.parser.close()) this.#complete(exchange);
    else this.#fail(new ConnectionLost(!exchange.answered, cause));
  }

  #complete(exchange: Exchange): void {
    this.#exchange = undefined;
    exchange.whole.resolve();
    if (!exchange.parser.keepsConnection || this.#unsent.length > 0) this.close();
  }

  #fail(error: Error): void {
    this.#exchange?.whole.reject(error);
    this.#exchange = undefined;
  }
}
