/** The one place that listens: a port or a Unix socket, with TLS where there are certificates. */

import { KvEngineError, messageOf } from "../errors.ts";
import type { Bindings } from "./deps.ts";
import type { Tls } from "./tls.ts";

export interface HttpServer {
  readonly url: string;
  /** Stops listening; with `force`, open connections are cut, else they may end. */
  stop(force?: boolean): Promise<void>;
  /** Connections from here on get this certificate. */
  setTls(tls: Tls): void;
}

/** Stops listening; answers under way have `ms` to reach their clients before connections are cut. */
export async function stopWithin(server: HttpServer, ms: number): Promise<void> {
  const { promise: passed, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([server.stop(), passed]);
  clearTimeout(timer);
  await server.stop(true);
}

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Path of a Unix socket, instead of host and port. */
  readonly uds?: string | undefined;
  readonly tls?: Tls | undefined;
}

/** Answers requests: a Hono app. */
export interface Answering {
  fetch(request: Request, bindings: Bindings): Response | Promise<Response>;
}

/** Seconds; for connections between requests, for bodies that stop coming and for readers that were given up. */
const IDLE_SECONDS = 60;

/** Listens. Throws `port_in_use`, or `bad_config` for an address that is not this machine's. */
export function serveHttp(app: Answering, options: ListenOptions): HttpServer {
  const { host, port, uds, tls } = options;
  try {
    if (uds !== undefined) {
      const server = Bun.serve({ ...answerWith(app), unix: uds });
      return serverOn(`unix:${uds}`, () => server);
    }
    // Listeners that share a port would hide that it is another program's.
    let server = listenOn(app, { hostname: host, port });
    const url = server.url.href.replace(/\/$/, "");
    if (tls === undefined) return serverOn(url, () => server);
    const place = { hostname: host, port: server.port ?? port, reusePort: true };
    void server.stop(true);
    server = listenOn(app, { ...place, tls });
    return {
      ...serverOn(url.replace(/^http:/, "https:"), () => server),
      setTls(changed): void {
        // Bun's listeners keep their certificate: another one takes over, and open connections end with the old one.
        const before = server;
        server = listenOn(app, { ...place, tls: changed });
        void before.stop();
      },
    };
  } catch (error) {
    throw uds === undefined ? listenError(error, host, port) : socketError(error, uds);
  }
}

type Listener = Bun.Server<undefined>;

function answerWith(app: Answering): {
  readonly maxRequestBodySize: number;
  fetch(request: Request, listener: Listener): Response | Promise<Response>;
} {
  return {
    // The app bounds bodies itself, with an answer that says so.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: (request, listener) =>
      app.fetch(request, {
        keepOpen: () => listener.timeout(request, 0),
        closeIdle: () => listener.timeout(request, IDLE_SECONDS),
      }),
  };
}

function listenOn(
  app: Answering,
  place: {
    readonly hostname: string;
    readonly port: number;
    readonly reusePort?: boolean;
    readonly tls?: Tls;
  },
): Listener {
  return Bun.serve({ ...answerWith(app), ...place, idleTimeout: IDLE_SECONDS });
}

function serverOn(url: string, listener: () => Listener): HttpServer {
  return {
    url,
    stop: (force = false) => listener().stop(force),
    setTls(): void {
      throw new KvEngineError("internal", "the server has no TLS");
    },
  };
}

function listenError(error: unknown, host: string, port: number): KvEngineError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") {
    return new KvEngineError("port_in_use", `port ${port} of ${host} is in use`, {
      subject: "port",
      hint: "stop the other program, or choose another with --port (0 = any free one)",
      cause: error,
    });
  }
  return new KvEngineError("bad_config", `cannot listen on ${host}:${port}: ${messageOf(error)}`, {
    subject: "host",
    hint: "use an address of this machine: 127.0.0.1, or 0.0.0.0 for every network",
    cause: error,
  });
}

function socketError(error: unknown, path: string): KvEngineError {
  return new KvEngineError("bad_config", `cannot listen on ${path}: ${messageOf(error)}`, {
    subject: "--uds",
    hint: "remove a socket that no program listens on, and see that the folder may be written",
    cause: error,
  });
}
