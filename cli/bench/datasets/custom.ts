/** `custom`: prompts of one's own, as vLLM's data set of this name: lines of `{"prompt": "…"}`, with `output_tokens` where known. */

import { conversation, question } from "./conversation.ts";
import type { FileDataset } from "./dataset.ts";
import { Fields, MAX_TOKENS } from "./files/fields.ts";
import { lines, textOf } from "./files/records.ts";
import { sampled, takeOrRepeat } from "./files/sampling.ts";

export const CUSTOM: FileDataset = {
  from: "file",
  options: ["num-prompts", "custom-output-len", "disable-shuffle", "oversample"],
  create(input, source) {
    const { options, seed, writer } = input;
    const places = sampled(source, lines(source), options, seed);
    const prompts = takeOrRepeat(input, source, places, (at, kept) => {
      const place = `${source.name}, line ${at.number}`;
      const fields = new Fields(place, textOf(source, at, place));
      const text = fields.text("prompt");
      kept.add(2 * text.length);
      const maxTokens = fields.has("output_tokens")
        ? fields.integer("output_tokens", 1, MAX_TOKENS)
        : options.customOutputLen;
      return { number: at.number, prompt: writer.text(text), maxTokens };
    });
    return prompts.map(({ number, prompt, maxTokens }, i) =>
      conversation(writer, {
        id: `line-${number}-${i}`,
        turns: [{ messages: question(prompt), maxTokens }],
        ignoreEos: options.ignoreEos,
      }),
    );
  },
};
