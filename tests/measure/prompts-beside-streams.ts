/**
 * Do running streams stall while prompts arrive? Fifteen streams run, for some seconds alone; then a prompt of 700 words, each another,
 * comes in every two seconds. Time between two tokens of the streams, ours and llama.cpp's server, in turns.
 *
 *   bun tests/measure/prompts-beside-streams.ts MODEL.gguf DIR_OF_LLAMA_CPP_PROGRAMS [--rounds 3] [--slo 150] [--seconds 20]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KVENGINE, percentile, startServer, stream } from "./load-client.ts";

const STREAMS = 15;
const PROMPT_WORDS = 700;
const EVERY_MS = 2000;
/** The streams begin, then run alone. */
const BEGIN_MS = 1500;
const ALONE_MS = 4000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    slo: { type: "string", default: "150" },
    seconds: { type: "string", default: "20" },
  },
});
const [model, programs] = positionals;
if (model === undefined)
  throw new Error("usage: prompts-beside-streams.ts MODEL.gguf [DIR_OF_LLAMA_CPP_PROGRAMS]");
const seconds = Number(values.seconds);

const OURS = [
  ...KVENGINE,
  ...["serve", model, "--port", "PORT", "--max-num-seqs", "16", "--tpot-slo", values.slo],
];
const sides: (readonly [name: string, command: readonly string[]])[] = [["kvengine", OURS]];
if (programs !== undefined) {
  const peer = [join(programs, "llama-server"), "-m", model, "--port", "PORT"];
  sides.push(["llama-server", [...peer, "-np", "16", "-c", "32768", "-t", "2"]]);
}

/** The same words for the same number everywhere; no two numbers have a beginning in common that a prefix cache could find. */
function words(seed: number): string {
  const some = ["time", "river", "house", "green", "seven", "under", "light", "stone", "paper"];
  let state = seed;
  const next = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0);
  return [
    `Letter ${seed}:`,
    ...Array.from({ length: PROMPT_WORDS }, () => some[(next() >>> 16) % some.length]),
  ].join(" ");
}

interface Measured {
  /** Milliseconds between two tokens of the streams, before any prompt came and from then on. */
  readonly alone: readonly number[];
  readonly gaps: readonly number[];
  /** Milliseconds to the prompts' first tokens. */
  readonly prompts: readonly number[];
}

async function measure(command: readonly string[]): Promise<Measured> {
  const server = await startServer(command);
  const begun = performance.now() + BEGIN_MS;
  const firstPrompt = begun + ALONE_MS;
  const ends = firstPrompt + seconds * 1000;
  const alone: number[] = [];
  const gaps: number[] = [];
  const running = Array.from({ length: STREAMS }, async (_, i) => {
    while (performance.now() < ends) {
      const body = {
        prompt: `Story ${i}: once upon a time`,
        max_tokens: 400,
        temperature: 0,
        ignore_eos: true,
      };
      const { chunks } = await stream(server.url, body);
      for (const [token, at] of chunks.entries()) {
        const before = chunks[token - 1];
        if (before === undefined || before < begun || at >= ends) continue;
        (at < firstPrompt ? alone : gaps).push(at - before);
      }
    }
  });
  const arriving: Promise<number>[] = [];
  await Bun.sleep(firstPrompt - performance.now());
  for (let i = 0; performance.now() < ends - 1000; i++) {
    const body = { prompt: words(i + 1), max_tokens: 1, temperature: 0, ignore_eos: true };
    arriving.push(stream(server.url, body).then(({ sent, chunks }) => (chunks[0] ?? sent) - sent));
    await Bun.sleep(EVERY_MS);
  }
  await Promise.all(running);
  const prompts = await Promise.all(arriving);
  await server.stop();
  return { alone, gaps, prompts };
}

for (let round = 1; round <= Number(values.rounds); round++) {
  for (const [name, command] of round % 2 === 1 ? sides : sides.toReversed()) {
    const { alone, gaps, prompts } = await measure(command);
    const [p50, p99, most] = [percentile(gaps, 0.5), percentile(gaps, 0.99), Math.max(...gaps)];
    console.log(
      `round ${round} ${name}: between tokens p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms (${(p99 / p50).toFixed(2)}x), ` +
        `without prompts p50 ${percentile(alone, 0.5).toFixed(0)} ms, ` +
        `most ${most.toFixed(0)} ms, ${gaps.length} tokens; a prompt's first token p50 ${percentile(prompts, 0.5).toFixed(0)} ms`,
    );
  }
}
