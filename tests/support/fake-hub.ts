/** A Hugging Face Hub of one repository on a free port of this machine, with a second server that it sends downloads to. */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

export interface SeenRequest {
  readonly path: string;
  readonly authorization: string | null;
  readonly range: string | null;
  /** Asked of the server that has the bytes, not of the Hub. */
  readonly storage: boolean;
}

export interface FakeHubOptions {
  readonly repo: string;
  readonly commit: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** Files that git keeps itself: they have no SHA-256. */
  readonly small?: readonly string[];
  /** Answers instead, when it answers. */
  readonly intercept?: (request: Request, url: URL) => Response | undefined;
  /** Of a file, what is sent from `from` on; the connection is cut where that is less than there is. */
  readonly body?: (bytes: Uint8Array, from: number, attempt: number) => Uint8Array;
  /** Resolves when the client has a file up to this byte: a cut that comes sooner may take bytes with it. */
  readonly received?: (upTo: number) => Promise<void>;
  readonly ignoreRange?: boolean;
}

export class FakeHub implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  readonly #options: FakeHubOptions;
  readonly #hub: Bun.Server<undefined>;
  /** Speaks HTTP by hand, because a proper server cannot cut a connection in the middle of a body. */
  readonly #storage: Server;
  #attempts = 0;

  private constructor(options: FakeHubOptions) {
    this.#options = options;
    this.#storage = createServer((socket) => this.#serveBytes(socket));
    this.#hub = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) => this.#serveHub(request),
    });
  }

  static async start(options: FakeHubOptions): Promise<FakeHub> {
    const hub = new FakeHub(options);
    hub.#storage.listen(0, "127.0.0.1");
    await once(hub.#storage, "listening");
    return hub;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#hub.stop(true);
    this.#storage.close();
  }

  #see(path: string, headers: Headers, storage: boolean): void {
    this.requests.push({
      path,
      authorization: headers.get("authorization"),
      range: headers.get("range"),
      storage,
    });
  }

  #serveHub(request: Request): Response {
    const url = new URL(request.url);
    this.#see(url.pathname, request.headers, false);
    const { repo, commit, files, small = [], intercept } = this.#options;
    const other = intercept?.(request, url);
    if (other !== undefined) return other;
    if (
      url.pathname === `/api/models/${repo}/revision/main` ||
      url.pathname === `/api/models/${repo}/revision/${commit}`
    ) {
      return Response.json({
        sha: commit,
        siblings: Object.entries(files).map(([name, bytes]) =>
          listed(name, bytes, small.includes(name)),
        ),
      });
    }
    const path = url.pathname.replace(`/${repo}/resolve/${commit}/`, "");
    if (!(path in files)) return new Response("not found", { status: 404 });
    return Response.redirect(
      `http://127.0.0.1:${(this.#storage.address() as AddressInfo).port}/${path}`,
      302,
    );
  }

  #serveBytes(socket: Socket): void {
    let head = "";
    socket.on("data", (data) => {
      head += data.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      const [first = "", ...lines] = head.trim().split("\r\n");
      const headers = new Headers(
        lines.map((line): [string, string] => [
          line.split(": ", 1)[0] ?? "",
          line.replace(/^[^:]*: /, ""),
        ]),
      );
      const path = first.split(" ")[1] ?? "";
      this.#see(path, headers, true);
      const bytes = this.#options.files[path.slice(1)] ?? new Uint8Array();
      const range = this.#options.ignoreRange === true ? null : headers.get("range");
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
      const status =
        range === null
          ? ["HTTP/1.1 200 OK"]
          : [
              "HTTP/1.1 206 Partial Content",
              `Content-Range: bytes ${from}-${bytes.length - 1}/${bytes.length}`,
            ];
      socket.write(
        [...status, `Content-Length: ${bytes.length - from}`, "Connection: close", "", ""].join(
          "\r\n",
        ),
      );
      const body = this.#options.body?.(bytes, from, this.#attempts++) ?? bytes.subarray(from);
      socket.write(body);
      const cut = body.length > 0 && from + body.length < bytes.length;
      if (cut && this.#options.received !== undefined)
        void this.#options.received(from + body.length).then(() => socket.end());
      else socket.end();
    });
  }
}

function listed(name: string, bytes: Uint8Array, small: boolean): unknown {
  const blob = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  const entry = { rfilename: name, size: bytes.length, blobId: blob };
  return small
    ? entry
    : { ...entry, lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 134 } };
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
