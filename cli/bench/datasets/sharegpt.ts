/**
 * `sharegpt`: the first question and the length of the first answer of real chats, filtered as vLLM does it. The file is one JSON
 * array of `{"conversations": [{"value": "…"}, …]}`.
 */

import { conversation, question } from "./conversation.ts";
import type { FileDataset } from "./dataset.ts";
import { Fields, wrongValue } from "./files/fields.ts";
import { elements, textOf } from "./files/records.ts";
import { sampled, takeOrRepeat } from "./files/sampling.ts";

/** vLLM's bounds (`is_valid_sequence`), in tokens. */
const [MIN_TOKENS, MAX_PROMPT, MAX_TOGETHER] = [4, 1024, 2048];

export const SHAREGPT: FileDataset = {
  from: "file",
  options: ["num-prompts", "sharegpt-output-len", "disable-shuffle", "oversample"],
  create(input, source) {
    const { options, seed, writer } = input;
    const places = sampled(source, elements(source), options, seed);
    const chats = takeOrRepeat(input, source, places, (at, kept) => {
      const place = `${source.name}, element ${at.number}`;
      const pair = firstPair(place, textOf(source, at, place));
      if (pair === undefined) return undefined;
      const prompt = writer.text(pair.prompt);
      const outputLen = options.sharegptOutputLen || writer.count(pair.answer);
      const enough = options.sharegptOutputLen > 0 || outputLen >= MIN_TOKENS;
      if (!enough || prompt.numTokens < MIN_TOKENS || prompt.numTokens > MAX_PROMPT)
        return undefined;
      if (prompt.numTokens + outputLen > MAX_TOGETHER) return undefined;
      kept.add(2 * pair.prompt.length);
      return { number: at.number, prompt, maxTokens: outputLen };
    });
    return chats.map(({ number, prompt, maxTokens }, i) =>
      conversation(writer, {
        id: `sharegpt-${number}-${i}`,
        turns: [{ messages: question(prompt), maxTokens }],
        ignoreEos: options.ignoreEos,
      }),
    );
  },
};

/** Undefined where there are fewer than two turns: such entries are passed over. */
function firstPair(place: string, text: string): { prompt: string; answer: string } | undefined {
  const fields = new Fields(place, text);
  const said = fields.has("conversations") ? fields.array("conversations") : [];
  if (said.length < 2) return undefined;
  const [prompt = "", answer = ""] = said.slice(0, 2).map((turn, i) => {
    const value = typeof turn === "object" && turn !== null && "value" in turn ? turn.value : turn;
    if (typeof value !== "string")
      throw wrongValue(place, `conversations[${i}].value`, value, "a string");
    return value;
  });
  return { prompt, answer };
}
