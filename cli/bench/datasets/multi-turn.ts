/** `multi-turn`: chats. Each turn carries all that was said and answered before, after a pause for thinking. */

import { conversation, type TurnScript } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { shared } from "./pieces.ts";
import type { Message } from "./prompt-writer.ts";
import { exponentialMs, spread, streams } from "./random-numbers.ts";

export const MULTI_TURN: GeneratedDataset = {
  from: "options",
  options: [
    "num-prompts",
    "multi-turn-clients",
    "multi-turn-turns",
    "multi-turn-common-len",
    "multi-turn-first-len",
    "multi-turn-message-len",
    "multi-turn-output-len",
    "multi-turn-range-ratio",
    "multi-turn-think-time",
  ],
  clients: ({ multiTurnClients }) => multiTurnClients,
  create({ options, seed, writer }) {
    const { multiTurnCommonLen: commonLen, multiTurnRangeRatio: ratio } = options;
    const firsts = streams(seed, "multi-turn first messages");
    const system: readonly Message[] =
      commonLen === 0
        ? []
        : [
            {
              role: "system",
              pieces: [shared(writer.opening(streams(seed, "multi-turn common"), 0, commonLen))],
            },
          ];
    return Array.from({ length: options.numPrompts }, (_, i) => {
      const messages = streams(seed, `multi-turn messages of ${i}`);
      const random = streams(seed, "multi-turn lengths")(i);
      const turns = Array.from({ length: options.multiTurnTurns }, (_, turn): TurnScript => {
        const mean = turn === 0 ? options.multiTurnFirstLen : options.multiTurnMessageLen;
        const inputLen = spread(random, mean, ratio);
        const maxTokens = spread(random, options.multiTurnOutputLen, ratio);
        // Drawn for first turns too, so that the lengths do not depend on whether there are pauses.
        const pause = exponentialMs(random, options.multiTurnThinkTime);
        if (turn > 0) {
          const pieces = [writer.following(messages, turn, inputLen)];
          return { messages: [{ role: "user", pieces }], maxTokens, thinkTimeMs: pause };
        }
        const first =
          commonLen === 0
            ? writer.opening(firsts, i, inputLen)
            : writer.following(firsts, i, inputLen);
        return { messages: [...system, { role: "user", pieces: [first] }], maxTokens };
      });
      return conversation(writer, { id: `chat-${i}`, turns, ignoreEos: options.ignoreEos });
    });
  },
};
