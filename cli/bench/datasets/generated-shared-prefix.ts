/** `generated-shared-prefix`: groups that share a system prompt, as SGLang's data set of this name. */

import { conversation } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { inOrder } from "./order.ts";
import { shared } from "./pieces.ts";
import { streams } from "./random-numbers.ts";

export const GENERATED_SHARED_PREFIX: GeneratedDataset = {
  from: "options",
  options: [
    "gsp-num-groups",
    "gsp-prompts-per-group",
    "gsp-system-prompt-len",
    "gsp-question-len",
    "gsp-output-len",
    "disable-shuffle",
  ],
  create({ options, seed, writer }) {
    const systems = streams(seed, "gsp system prompts");
    const all = Array.from({ length: options.gspNumGroups }, (_, group) => {
      const system = shared(writer.opening(systems, group, options.gspSystemPromptLen));
      const questions = streams(seed, `gsp questions of ${group}`);
      return Array.from({ length: options.gspPromptsPerGroup }, (_, i) =>
        conversation(writer, {
          id: `group-${group}-${i}`,
          turns: [
            {
              messages: [
                { role: "system", pieces: [system] },
                { role: "user", pieces: [writer.following(questions, i, options.gspQuestionLen)] },
              ],
              maxTokens: options.gspOutputLen,
            },
          ],
          ignoreEos: options.ignoreEos,
        }),
      );
    });
    return inOrder(all.flat(), options, seed);
  },
};
