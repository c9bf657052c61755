/**
 * What streaming costs: tokens a second that a core of the server carries, all of the server's threads counted. The model's
 * work is done by the null backend; 256 chat streams, one chunk a token. That engine is faster than any HTTP side, so a write
 * carries the chunks of several steps (up to `MAX_UNTOLD` of `engine-client.ts`); an engine that is slower gets a write each.
 *
 *   bun tests/measure/stream-cost.ts MODEL.gguf [--streams 256] [--tokens 400] [--rounds 3]
 */
import { parseArgs } from "node:util";
import { cpuSeconds, KVENGINE, startServer, stream } from "./load-client.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    streams: { type: "string", default: "256" },
    tokens: { type: "string", default: "400" },
    rounds: { type: "string", default: "3" },
  },
});
const [model] = positionals;
if (model === undefined) throw new Error("usage: stream-cost.ts MODEL.gguf");
const streams = Number(values.streams);
const tokens = Number(values.tokens);

// The clients run in their own process, so that their work is not the server's.
const server = await startServer([
  ...KVENGINE,
  ...["serve", model, "--port", "PORT", "--backend", "null", "--max-num-seqs", String(streams)],
]);
const body = {
  messages: [{ role: "user", content: "Hello" }],
  max_tokens: tokens,
  temperature: 0,
  ignore_eos: true,
};
for (let round = 0; round <= Number(values.rounds); round++) {
  const before = await cpuSeconds(server.pid);
  const start = performance.now();
  const all = await Promise.all(
    Array.from({ length: streams }, () => stream(server.url, body, "/v1/chat/completions")),
  );
  const seconds = (performance.now() - start) / 1000;
  const cpu = (await cpuSeconds(server.pid)) - before;
  const chunks = all.reduce((sum, one) => sum + one.chunks.length, 0);
  const sampled = streams * tokens;
  const line =
    `${(sampled / cpu).toFixed(0)} tokens/s a core (${sampled} tokens in ${chunks} chunks, ` +
    `${cpu.toFixed(2)} s of CPU, ${seconds.toFixed(2)} s)`;
  console.log(round === 0 ? `warm-up: ${line}` : line);
}
await server.stop();
