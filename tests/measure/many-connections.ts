/**
 * Many connections on one server, over the null backend: idle ones, streams, and readers that stop reading. Says whether every stream had all
 * its tokens, how long `/health` took meanwhile, and how much memory the server took. A server that does nothing
 * else is asked at the same times: what that takes is the machine's part.
 *
 *   bun tests/measure/many-connections.ts MODEL.gguf [--idle 1500] [--streams 450] [--slow 50] [--tokens 400]
 */
import { connect, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { KVENGINE, startServer } from "./load-client.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    idle: { type: "string", default: "1500" },
    streams: { type: "string", default: "450" },
    slow: { type: "string", default: "50" },
    tokens: { type: "string", default: "400" },
  },
});
const [model] = positionals;
if (model === undefined) throw new Error("usage: many-connections.ts MODEL.gguf");
const tokens = Number(values.tokens);
const numStreams = Number(values.streams);
const numSlow = Number(values.slow);

const server = await startServer([
  ...KVENGINE,
  ...[
    "serve",
    model,
    "--port",
    "PORT",
    "--backend",
    "null",
    "--max-num-seqs",
    String(numStreams + numSlow),
  ],
  ...["--slow-reader-timeout", "5", "--no-access-log"],
]);
const { hostname, port } = new URL(server.url);

/** A raw connection, so that no client's pool limits how many there are. */
function open(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => resolve(socket));
    socket.on("error", reject);
  });
}

function ask(socket: Socket, maxTokens: number): void {
  const fields = { prompt: "Hello", max_tokens: maxTokens, ignore_eos: true, stream: true };
  const body = JSON.stringify({ ...fields, return_token_ids: true });
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

/** Tokens of a stream that is read to its end. */
function readAll(socket: Socket): Promise<number> {
  return new Promise((resolve) => {
    let count = 0;
    let rest = "";
    socket.on("data", (bytes) => {
      const lines = (rest + bytes.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const ids = /"token_ids":\[([\d,]+)\]/.exec(line)?.[1];
        if (ids !== undefined) count += ids.split(",").length;
        if (!line.startsWith("data: [DONE]")) continue;
        resolve(count);
        socket.destroy();
      }
    });
  });
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk);
    if (text.includes("\n")) break;
  }
  return text.trim();
}

async function memoryMiB(): Promise<number> {
  const status = await Bun.file(`/proc/${server.pid}/status`).text();
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

const idle = await Promise.all(Array.from({ length: Number(values.idle) }, open));
const before = await memoryMiB();
const sockets = await Promise.all(Array.from({ length: numStreams + numSlow }, open));
const slow = sockets.slice(numStreams);
for (const socket of slow) socket.pause();
const streams = sockets.slice(0, numStreams).map((socket) => {
  const all = readAll(socket);
  ask(socket, tokens);
  return all;
});
// As much as the model's length lets one ask for, so that no buffer takes it all.
for (const socket of slow) ask(socket, 7000);

// In a process of its own: what this one is busy with is not the server's time.
const PROBE = `const ask = async (url) => {
  const start = performance.now();
  await (await fetch(url)).text();
  return performance.now() - start;
};
for (;;) {
  console.log(await ask(process.argv[1]), await ask(process.argv[2]));
  await Bun.sleep(20);
}`;
const BARE = `console.log(Bun.serve({ port: 0, fetch: () => new Response("ok") }).url.href)`;
const bare = Bun.spawn([process.execPath, "-e", BARE], { stdout: "pipe", stderr: "ignore" });
const bareUrl = await firstLine(bare.stdout);
const probe = Bun.spawn([process.execPath, "-e", PROBE, `${server.url}/health`, bareUrl], {
  stdout: "pipe",
  stderr: "ignore",
});
let mostMemory = before;
const watching = setInterval(() => {
  void memoryMiB().then((now) => (mostMemory = Math.max(mostMemory, now)));
}, 100);
const start = performance.now();
const counts = await Promise.all(streams);
const seconds = (performance.now() - start) / 1000;
clearInterval(watching);
probe.kill();
bare.kill();
const latencies = (await probe.stdout.text()).trim().split("\n");
const latenciesOf = (column: number): string => {
  const sorted = latencies.map((line) => Number(line.split(" ")[column])).sort((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN).toFixed(1);
  return `median ${at(0.5)} ms, p99 ${at(0.99)} ms`;
};
const whole = counts.filter((count) => count === tokens).length;
console.log(
  `${idle.length} idle connections, ${numStreams} streams of ${tokens} tokens, ${numSlow} readers that stop reading`,
);
console.log(`${whole} of ${numStreams} streams had all their tokens, in ${seconds.toFixed(1)} s`);
console.log(`/health: ${latenciesOf(0)} of ${latencies.length}; a bare server: ${latenciesOf(1)}`);
console.log(`memory: ${before.toFixed(0)} MiB before, at most ${mostMemory.toFixed(0)} MiB`);
for (const socket of [...idle, ...slow]) socket.destroy();
await server.stop();
