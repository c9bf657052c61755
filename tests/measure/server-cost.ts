/**
 * What a server costs besides computing: time from start to ready and to the first token, memory beyond weights and KV, and
 * CPU while idle. Linux only (reads /proc).
 *
 *   bun tests/measure/server-cost.ts MODEL.gguf [EXECUTABLE]     (default: bun cli/main.ts)
 */
import { fileURLToPath } from "node:url";
import { startAndAsk } from "./first-token.ts";

const IDLE_SECONDS = 30;
/** `sysconf(_SC_CLK_TCK)` on Linux. */
const TICKS_PER_SECOND = 100;

const [model, executable] = process.argv.slice(2);
if (model === undefined) throw new Error("usage: server-cost.ts MODEL.gguf [EXECUTABLE]");
const source = [process.execPath, fileURLToPath(new URL("../../cli/main.ts", import.meta.url))];
const command = executable === undefined ? source : [executable];

const server = await startAndAsk([...command, "serve", model, "--max-num-seqs", "16"]);
const { readyMs, firstTokenMs } = server;

const before = await cpuTicks();
await Bun.sleep(IDLE_SECONDS * 1000);
const idle = ((await cpuTicks()) - before) / TICKS_PER_SECOND / IDLE_SECONDS;
const status = await Bun.file(`/proc/${server.pid}/status`).text();
const resident = (name: string): number =>
  Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
console.log(
  `ready after ${(readyMs / 1000).toFixed(2)} s, first token after ${(firstTokenMs / 1000).toFixed(2)} s`,
);
console.log(
  `resident: anonymous ${resident("RssAnon").toFixed(0)} MiB, files ${resident("RssFile").toFixed(0)} MiB`,
);
console.log(`idle: ${(idle * 100).toFixed(2)} % of a core over ${IDLE_SECONDS} s`);
await server.stop();

/** User and system time of the process so far. */
async function cpuTicks(): Promise<number> {
  const stat = await Bun.file(`/proc/${server.pid}/stat`).text();
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
