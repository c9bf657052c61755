/** A small load client for the measurements here: streams completions and notes when each chunk came. */

export interface StreamTimes {
  /** Milliseconds of `performance.now()`: when it was asked for, and when each chunk with text or tokens came. */
  readonly sent: number;
  readonly chunks: number[];
  readonly text: string;
}

/** Streams one completion to its end. Throws what the server answers when it is not 200. */
export async function stream(
  url: string,
  body: Readonly<Record<string, unknown>>,
  path = "/v1/completions",
): Promise<StreamTimes> {
  const sent = performance.now();
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  if (!response.ok || response.body === null)
    throw new Error(`${response.status}: ${await response.text()}`);
  const chunks: number[] = [];
  const decoder = new TextDecoder();
  let rest = "";
  let text = "";
  for await (const bytes of response.body) {
    const now = performance.now();
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const choice = (JSON.parse(line.slice(6)) as Chunk).choices?.[0];
      if (choice === undefined) continue;
      chunks.push(now);
      text += choice.text ?? choice.delta?.content ?? "";
    }
  }
  return { sent, chunks, text };
}

interface Chunk {
  readonly choices?: readonly {
    readonly text?: string;
    readonly delta?: { readonly content?: string };
  }[];
}

/** Starts a server and answers its address once `ready` matches a line of its output, or a request to it succeeds. */
export interface StartedServer {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** `command` with `PORT` where the port goes; ready when GET /health answers 200. */
export async function startServer(command: readonly string[]): Promise<StartedServer> {
  const port = freePort();
  const child = Bun.spawn(
    command.map((part) => (part === "PORT" ? String(port) : part)),
    { stdout: "ignore", stderr: "ignore" },
  );
  const url = `http://127.0.0.1:${port}`;
  for (;;) {
    if (child.exitCode !== null)
      throw new Error(`${command.join(" ")} ended with ${child.exitCode}`);
    const healthy = await fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false, // not listening yet
    );
    if (healthy) break;
    await Bun.sleep(100);
  }
  return {
    url,
    pid: child.pid,
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}

function freePort(): number {
  const server = Bun.serve({ port: 0, fetch: () => new Response() });
  const { port } = server;
  void server.stop(true);
  return port as number;
}

/** The value below which a share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** User and system time of a process so far, in seconds. Linux. */
export async function cpuSeconds(pid: number): Promise<number> {
  return secondsIn(await Bun.file(`/proc/${pid}/stat`).text());
}

/** User and system time in the `stat` of a process or a thread. */
function secondsIn(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export interface ThreadUse {
  /** Of processor time. */
  readonly seconds: number;
  /** Times that it lost its processor to another thread. */
  readonly preempted: number;
}

/** What the threads of a process have used, by their names without numbers. */
export async function threadUse(pid: number): Promise<Map<string, ThreadUse>> {
  const all = new Map<string, ThreadUse>();
  for await (const task of new Bun.Glob("*/stat").scan(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${task.slice(0, -"/stat".length)}`;
    const [stat, status] = await Promise.all([
      Bun.file(`${folder}/stat`).text(),
      Bun.file(`${folder}/status`).text(),
    ]).catch(() => ["", ""] as const);
    // It has ended since.
    if (stat === "") continue;
    const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")")).replace(/-\d+$/, "");
    const { seconds, preempted } = all.get(name) ?? { seconds: 0, preempted: 0 };
    const times = Number(/^nonvoluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? 0);
    all.set(name, { seconds: seconds + secondsIn(stat), preempted: preempted + times });
  }
  return all;
}

/** `kvengine` from this source tree. */
export const KVENGINE: readonly string[] = [
  process.execPath,
  decodeURIComponent(new URL("../../cli/main.ts", import.meta.url).pathname),
];
