/** `prefix_repetition`: a few beginnings, each with many different ends, as vLLM's data set of this name. */

import { KvEngineError } from "../../../engine/errors.ts";
import { conversation, question } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { inOrder } from "./order.ts";
import { shared } from "./pieces.ts";
import { streams } from "./random-numbers.ts";

export const PREFIX_REPETITION: GeneratedDataset = {
  from: "options",
  options: [
    "num-prompts",
    "prefix-repetition-num-prefixes",
    "prefix-repetition-prefix-len",
    "prefix-repetition-suffix-len",
    "prefix-repetition-output-len",
    "disable-shuffle",
  ],
  create({ options, seed, writer }) {
    const numPrefixes = options.prefixRepetitionNumPrefixes;
    const perPrefix = Math.floor(options.numPrompts / numPrefixes);
    if (perPrefix === 0) {
      throw new KvEngineError(
        "bad_config",
        `--num-prompts is ${options.numPrompts}; allowed is at least --prefix-repetition-num-prefixes, ${numPrefixes}`,
        { subject: "--num-prompts" },
      );
    }
    const prefixes = streams(seed, "prefix_repetition prefixes");
    const all = Array.from({ length: numPrefixes }, (_, group) => {
      const prefix = shared(writer.opening(prefixes, group, options.prefixRepetitionPrefixLen));
      const suffixes = streams(seed, `prefix_repetition suffixes of ${group}`);
      return Array.from({ length: perPrefix }, (_, i) => {
        const suffix = writer.following(suffixes, i, options.prefixRepetitionSuffixLen);
        return conversation(writer, {
          id: `prefix-${group}-${i}`,
          turns: [
            {
              messages: question(prefix, suffix),
              maxTokens: options.prefixRepetitionOutputLen,
            },
          ],
          ignoreEos: options.ignoreEos,
        });
      });
    });
    return inOrder(all.flat(), options, seed);
  },
};
