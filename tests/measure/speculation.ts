/**
 * Single-stream rates with prompt look-up and without, in turns: on an edit of a given text, where most of the answer is a copy,
 * and on free text, where nothing can be looked up.
 *
 *   bun tests/measure/speculation.ts MODEL.gguf [--rounds 5]
 */
import { parseArgs } from "node:util";
import { KVENGINE, percentile, startServer, stream } from "./load-client.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "5" } },
});
const [model] = positionals;
if (model === undefined) throw new Error("usage: speculation.ts MODEL.gguf");
const code = await Bun.file(new URL("texts/code.txt", import.meta.url)).text();
const excerpt = code.slice(0, 1500);

const TASKS = {
  // The text, and its beginning again: a model continues a copy.
  edit: { prompt: `${excerpt}\n\nThe same again:\n\n${excerpt.slice(0, 200)}`, max_tokens: 256 },
  free: { prompt: "My favourite memory of that summer is", max_tokens: 256 },
} as const;
const SIDES = { off: [], on: ["--speculative", "ngram"] } as const;

const rates = new Map<string, number[]>();
const texts = new Map<string, string>();
for (let round = 0; round <= Number(values.rounds); round++) {
  const sides = Object.entries(SIDES);
  for (const [side, flags] of round % 2 === 0 ? sides : sides.toReversed()) {
    const server = await startServer([...KVENGINE, "serve", model, "--port", "PORT", ...flags]);
    for (const [task, body] of Object.entries(TASKS)) {
      const { chunks, text } = await stream(server.url, {
        ...body,
        temperature: 0,
        ignore_eos: true,
      });
      // The first chunk ends the prompt's time; what is left is generation.
      const rate = (body.max_tokens - 1) / ((chunks.at(-1)! - chunks[0]!) / 1000);
      const before = texts.get(task);
      if (before !== undefined && before !== text) throw new Error(`${task}: the answers differ`);
      texts.set(task, text);
      if (round > 0) rates.set(`${task} ${side}`, [...(rates.get(`${task} ${side}`) ?? []), rate]);
    }
    await server.stop();
  }
}
for (const task of Object.keys(TASKS)) {
  const [off, on] = ["off", "on"].map((side) =>
    percentile(rates.get(`${task} ${side}`) ?? [], 0.5),
  );
  console.log(
    `${task}: ${off!.toFixed(1)} tokens/s without, ${on!.toFixed(1)} with: ${(on! / off!).toFixed(2)}x`,
  );
}
