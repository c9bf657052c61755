/** A server on a real socket that says byte by byte what the test tells it to. Listens on a free port. */

import type { Socket, TCPSocketListener } from "bun";

/** One request, and the connection that it came by. */
export class ScriptedExchange {
  readonly method: string;
  readonly path: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  /** The number of the connection, from 0. */
  readonly connection: number;
  readonly #socket: Socket<Incoming>;

  constructor(socket: Socket<Incoming>, head: string, body: string) {
    const [line = "", ...lines] = head.split("\r\n");
    const [method = "", path = ""] = line.split(" ");
    this.method = method;
    this.path = path;
    this.headers = new Map(
      lines.map((one) => {
        const colon = one.indexOf(":");
        return [one.slice(0, colon).toLowerCase(), one.slice(colon + 1).trim()];
      }),
    );
    this.body = body;
    this.connection = socket.data.number;
    this.#socket = socket;
  }

  get json(): Record<string, unknown> {
    return JSON.parse(this.body) as Record<string, unknown>;
  }

  /** Bytes as they are. */
  raw(text: string | Uint8Array): void {
    this.#socket.write(text);
    this.#socket.flush();
  }

  /** Status and headers of a stream of events whose body comes in chunks. */
  openStream(): void {
    this.raw(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
  }

  /** A chunk of the body. */
  chunk(text: string): void {
    this.raw(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
  }

  /** The end of a body in chunks. */
  endChunks(): void {
    this.raw("0\r\n\r\n");
  }

  /** A whole answer with a length. */
  answer(status: string, contentType: string, body: string): void {
    this.raw(
      `HTTP/1.1 ${status}\r\ncontent-type: ${contentType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  }

  /** Ends the connection: in good order, or as a process does that dies. */
  hangUp(how: "in order" | "reset" = "in order"): void {
    if (how === "in order") this.#socket.end();
    else this.#socket.terminate();
  }
}

/** What has come by a connection and is no whole request yet. */
interface Incoming {
  readonly number: number;
  bytes: Buffer;
}

export class ScriptedServer implements Disposable {
  readonly #listener: TCPSocketListener<Incoming>;
  readonly #waiting: ((exchange: ScriptedExchange) => void)[] = [];
  readonly #arrived: ScriptedExchange[] = [];
  #numConnections = 0;

  constructor() {
    this.#listener = Bun.listen<Incoming>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = { number: this.#numConnections++, bytes: Buffer.alloc(0) };
        },
        data: (socket, bytes) => this.#receive(socket, bytes),
        error: () => {},
      },
    });
  }

  get port(): number {
    return this.#listener.port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get numConnections(): number {
    return this.#numConnections;
  }

  /** The next request that is not taken yet. */
  next(): Promise<ScriptedExchange> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return Promise.resolve(arrived);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  [Symbol.dispose](): void {
    this.#listener.stop(true);
  }

  #receive(socket: Socket<Incoming>, bytes: Buffer): void {
    const { data } = socket;
    data.bytes = Buffer.concat([data.bytes, bytes]);
    const end = data.bytes.indexOf("\r\n\r\n");
    if (end < 0) return;
    const head = data.bytes.toString("latin1", 0, end);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    if (data.bytes.length < end + 4 + length) return;
    const body = data.bytes.toString("utf8", end + 4, end + 4 + length);
    data.bytes = data.bytes.subarray(end + 4 + length);
    const exchange = new ScriptedExchange(socket, head, body);
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#arrived.push(exchange);
    else waiting(exchange);
  }
}

/** A port where nobody listens. */
export function closedPort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
