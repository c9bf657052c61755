/** Real processes of the command line, for tests. Ports are chosen by the system; nothing waits for a time. */

import { join } from "node:path";
import { defaultModelPath } from "./default-model.ts";

const MAIN = join(import.meta.dir, "../../cli/main.ts");

export interface ProcessOptions {
  /** What runs; default: `cli/main.ts` under this Bun. */
  readonly command?: readonly string[];
  /** The whole environment; default: this process's without its `KVENGINE_*`. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: string;
}

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function spawn(
  args: readonly string[],
  options: ProcessOptions,
): Bun.Subprocess<"ignore" | Uint8Array, "pipe", "pipe"> {
  const command = options.command ?? [process.execPath, MAIN];
  return Bun.spawn([...command, ...args], {
    env: options.env ?? inheritedEnv(),
    cwd: options.cwd ?? process.cwd(),
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
}

function inheritedEnv(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    ([name, value]) => !name.startsWith("KVENGINE_") && value !== undefined,
  );
  return Object.fromEntries(entries) as Record<string, string>;
}

/** Runs a command to its end. */
export async function runCli(
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<Finished> {
  const child = spawn(args, options);
  const [stdout, stderr, code] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  /** Exit code once it has ended. */
  readonly exited: Promise<number>;
  /** What it has said on standard error so far; the whole of it after `exited`. */
  stderr(): string;
  /** Resolves when standard error holds this text. */
  saysOnStderr(text: string): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts `kvengine serve` on a free port and resolves when it says that it is ready. Throws what it said when it ends instead. */
export async function startServer(
  args: readonly string[] = [],
  options: ProcessOptions & { subcommand?: readonly string[]; model?: string } = {},
): Promise<TestServer> {
  const model = options.model ?? defaultModelPath();
  const child = spawn(
    [...(options.subcommand ?? ["serve"]), model, "--port", "0", ...args],
    options,
  );
  let stderr = "";
  let heard: () => void = () => {};
  const stderrEnd = (async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) {
      stderr += decoder.decode(chunk, { stream: true });
      heard();
    }
    heard();
  })();
  const exited = Promise.all([child.exited, stderrEnd]).then(([code]) => code);
  const url = await readUrl(child.stdout);
  if (url === undefined) throw new Error(`the server ended with code ${await exited}: ${stderr}`);
  return {
    url,
    pid: child.pid,
    exited,
    stderr: () => stderr,
    async saysOnStderr(text): Promise<void> {
      while (!stderr.includes(text)) {
        if (child.exitCode !== null)
          throw new Error(`the server ended and never said "${text}": ${stderr}`);
        const { promise, resolve } = Promise.withResolvers<void>();
        heard = resolve;
        await promise;
      }
    },
    kill: (signal) => child.kill(signal),
    async [Symbol.asyncDispose](): Promise<void> {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** The address in the first line; undefined when the output ends without one. Goes on reading, so that nothing blocks. */
async function readUrl(stdout: ReadableStream<Uint8Array>): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  void (async (): Promise<void> => {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of stdout) {
      text += decoder.decode(chunk, { stream: true });
      const url = / on ((?:https?:\/\/|unix:)\S+) .*\n/.exec(text)?.[1];
      if (url !== undefined) resolve(url);
    }
    resolve(undefined);
  })();
  return promise;
}

/** A POST of JSON. */
export function post(
  server: Pick<TestServer, "url">,
  path: string,
  body: unknown,
  signal?: AbortSignal,
): Promise<Response> {
  return fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** The JSON objects of a stream of server-sent events, as they come; `[DONE]` ends it. */
export async function* events(response: Response): AsyncGenerator<Record<string, unknown>> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = text.slice(0, end).replace(/^data: /, "");
      text = text.slice(end + 2);
      if (data === "[DONE]") return;
      yield JSON.parse(data) as Record<string, unknown>;
    }
  }
}

/** A gauge or counter of `/metrics`, summed over its labels. */
export async function metric(server: Pick<TestServer, "url">, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const lines = text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
