/** A server that the bench starts and stops. */

import { setTimeout as delay } from "node:timers/promises";
import { KvEngineError } from "../../../engine/errors.ts";
import { control } from "../http/control.ts";
import { freePort } from "./free-port.ts";

export interface ServerCommand {
  /** For messages: `llama-server`. */
  readonly name: string;
  /** `{port}` stands for a free port; without one the server must say its address on standard output. */
  readonly words: readonly string[];
}

export interface ChildServer {
  readonly baseUrl: string;
  /** As it was started. */
  readonly command: readonly string[];
  /** SIGTERM, and SIGKILL where that does not end it. */
  stop(): Promise<void>;
}

/** Lines of output that an error shows. */
const TAIL_LINES = 20;
const POLL_MS = 50;
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 5000;

/** Ends them when this process does, however it does. */
const running = new Set<Child>();
process.on("exit", () => {
  for (const child of running) signalGroup(child, "SIGKILL");
});

/**
 * Starts a server and returns once it answers. Throws `unavailable` with the end of its output when it ends before, is not ready
 * within `timeoutMs`, or `signal` aborts.
 */
export async function startChild(
  { name, words }: ServerCommand,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<ChildServer> {
  const needsPort = words.some((word) => word.includes("{port}"));
  const port = needsPort ? await freePort() : 0;
  const command = words.map((word) => word.replaceAll("{port}", String(port)));
  const child = spawn(name, command);
  const output = new Output(child.stdout, child.stderr);
  const wait = AbortSignal.any([
    AbortSignal.timeout(timeoutMs),
    ...(signal === undefined ? [] : [signal]),
  ]);
  try {
    const baseUrl = needsPort ? `http://127.0.0.1:${port}` : await output.url(child, wait);
    await untilReady(baseUrl, child, wait);
    return { baseUrl, command, stop: () => stop(child) };
  } catch (cause) {
    await stop(child);
    const code = child.exitCode ?? child.signalCode;
    const why = wait.aborted ? whyAborted(signal, timeoutMs) : `ended with ${code}`;
    throw new KvEngineError("unavailable", `${name} ${why}:\n${await output.tail()}`, {
      subject: name,
      hint: `it was started as: ${command.join(" ")}`,
      cause,
    });
  }
}

function whyAborted(signal: AbortSignal | undefined, timeoutMs: number): string {
  return signal?.aborted === true
    ? "was stopped before it was ready"
    : `is not ready after ${timeoutMs / 1000} s`;
}

type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;

function spawn(name: string, command: readonly string[]): Child {
  try {
    // Its own group: Ctrl-C is for the bench, which ends it in its turn.
    const child = Bun.spawn([...command], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      detached: true,
    });
    running.add(child);
    void child.exited.then(() => running.delete(child));
    return child;
  } catch (cause) {
    throw new KvEngineError("bad_config", `${name} cannot be started: ${command[0]} does not run`, {
      subject: command[0] ?? name,
      hint: "give the path of the program",
      cause,
    });
  }
}

async function stop(child: Child): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  signalGroup(child, "SIGTERM");
  const timer = setTimeout(() => signalGroup(child, "SIGKILL"), GRACE_MS);
  await child.exited;
  clearTimeout(timer);
  // Helpers that it left behind.
  signalGroup(child, "SIGKILL");
}

/** The child leads a group of its own: whatever it started is in it. */
function signalGroup({ pid }: Child, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // None of them is left.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** Ready = `/health` is 200; where there is no such path, `/v1/models`. */
async function untilReady(baseUrl: string, child: Child, signal: AbortSignal): Promise<void> {
  const endpoint = { baseUrl, headers: {} };
  for (;;) {
    signal.throwIfAborted();
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("it has ended");
    const health = await control(endpoint, "GET", "/health").catch(() => undefined);
    if (health?.status === 200) return;
    if (health?.status === 404) {
      const models = await control(endpoint, "GET", "/v1/models").catch(() => undefined);
      if (models !== undefined && models.status < 500) return;
    }
    await delay(POLL_MS);
  }
}

/** What a server says, both streams together; read all the time, so that it never blocks. */
class Output {
  #text = "";
  /** The part of it that came by standard output. */
  #stdout = "";
  #heard: () => void = () => {};
  readonly #end: Promise<unknown>;

  constructor(stdout: ReadableStream<Uint8Array>, stderr: ReadableStream<Uint8Array>) {
    const hear = (text: string): string => (this.#text + text).slice(-MAX_OUTPUT);
    this.#end = Promise.all([
      read(stdout, (text) => {
        this.#text = hear(text);
        this.#stdout = (this.#stdout + text).slice(-MAX_OUTPUT);
        this.#heard();
      }),
      read(stderr, (text) => (this.#text = hear(text))),
    ]);
  }

  /** The first address that it says on standard output. */
  async url(child: Child, signal: AbortSignal): Promise<string> {
    void child.exited.then(() => this.#heard());
    signal.addEventListener("abort", () => this.#heard(), { once: true });
    for (;;) {
      const url = /\bhttps?:\/\/[^\s"']+/.exec(this.#stdout)?.[0];
      if (url !== undefined) return url.replace(/\/$/, "");
      signal.throwIfAborted();
      if (child.exitCode !== null) throw new Error("it ended without saying an address");
      await new Promise<void>((resolve) => (this.#heard = resolve));
    }
  }

  /** The last lines, once it has ended; a helper of its own that lives on may keep its output open. */
  async tail(): Promise<string> {
    await Promise.race([this.#end, delay(GRACE_MS)]);
    return this.#text.trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  }
}

async function read(
  stream: ReadableStream<Uint8Array>,
  onText: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const bytes of stream) onText(decoder.decode(bytes, { stream: true }));
}

/** Characters of output that are kept. */
const MAX_OUTPUT = 64 * 1024;
