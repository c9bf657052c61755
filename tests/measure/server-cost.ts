/**
 * What a server costs besides computing: time from start to ready and to the first token, memory beyond weights and KV, and
 * CPU while idle. Linux only (reads /proc).
 *
 *   bun tests/measure/server-cost.ts MODEL.gguf [EXECUTABLE]     (default: bun cli/main.ts)
 */
import { fileURLToPath } from "node:url";

const IDLE_SECONDS = 30;
/** `sysconf(_SC_CLK_TCK)` on Linux. */
const TICKS_PER_SECOND = 100;

const [model, executable] = process.argv.slice(2);
if (model === undefined) throw new Error("usage: server-cost.ts MODEL.gguf [EXECUTABLE]");
const source = [process.execPath, fileURLToPath(new URL("../../cli/main.ts", import.meta.url))];
const command = executable === undefined ? source : [executable];

const start = performance.now();
const server = Bun.spawn([...command, "serve", model, "--port", "0", "--max-num-seqs", "16"], {
  stdout: "pipe",
  stderr: "pipe",
});
const url = await readyUrl();
const ready = performance.now() - start;
const answer = await fetch(`${url}/v1/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 2, stream: true }),
});
const reader = answer.body?.getReader();
await reader?.read();
const firstToken = performance.now() - start;
await reader?.cancel();

const before = await cpuTicks();
await Bun.sleep(IDLE_SECONDS * 1000);
const idle = ((await cpuTicks()) - before) / TICKS_PER_SECOND / IDLE_SECONDS;
const status = await Bun.file(`/proc/${server.pid}/status`).text();
const resident = (name: string): number =>
  Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
console.log(
  `ready after ${(ready / 1000).toFixed(2)} s, first token after ${(firstToken / 1000).toFixed(2)} s`,
);
console.log(
  `resident: anonymous ${resident("RssAnon").toFixed(0)} MiB, files ${resident("RssFile").toFixed(0)} MiB`,
);
console.log(`idle: ${(idle * 100).toFixed(2)} % of a core over ${IDLE_SECONDS} s`);
server.kill();
await server.exited;

/** The address in the line that says the server is ready, on either stream. */
function readyUrl(): Promise<string> {
  return Promise.any([firstUrl(server.stdout), firstUrl(server.stderr)]);
}

async function firstUrl(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0];
    if (url !== undefined) return url;
  }
  throw new Error(`the server ended without an address:\n${text}`);
}

/** User and system time of the process so far. */
async function cpuTicks(): Promise<number> {
  const stat = await Bun.file(`/proc/${server.pid}/stat`).text();
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
