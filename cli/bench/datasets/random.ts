/** `random`: prompts of random words, with or without a common beginning, as vLLM's data set of this name. */

import { conversation, question } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { shared } from "./pieces.ts";
import { spread, streams } from "./random-numbers.ts";

export const RANDOM: GeneratedDataset = {
  from: "options",
  options: [
    "num-prompts",
    "random-input-len",
    "random-output-len",
    "random-range-ratio",
    "random-prefix-len",
  ],
  create({ options, seed, writer }) {
    const { numPrompts, ignoreEos, randomPrefixLen: prefixLen, randomRangeRatio: ratio } = options;
    const [lengths, prompts] = [streams(seed, "random lengths"), streams(seed, "random")];
    const prefix =
      prefixLen === 0 ? [] : [shared(writer.opening(streams(seed, "random prefix"), 0, prefixLen))];
    return Array.from({ length: numPrompts }, (_, i) => {
      const random = lengths(i);
      const inputLen = spread(random, options.randomInputLen, ratio);
      const maxTokens = spread(random, options.randomOutputLen, ratio);
      const own =
        prefixLen === 0
          ? writer.opening(prompts, i, inputLen)
          : writer.following(prompts, i, inputLen);
      const turns = [{ messages: question(...prefix, own), maxTokens }];
      return conversation(writer, { id: `random-${i}`, turns, ignoreEos });
    });
  },
};
