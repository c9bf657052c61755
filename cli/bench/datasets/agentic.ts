/**
 * `agentic`: coding agents. All share instructions; each reads its task, then adds what a tool said, turn by turn, to a context
 * that only grows. The defaults are the synthetic twin that vLLM and Mooncake give of the Codex traces on SWE-bench Pro
 * (2026-05-06): 20,000 common tokens, 10,000 first ones, 30 turns of 2,048 more and 900 out. `--length-scale` brings it to small
 * models with the same ratios.
 */

import type { DatasetConfig } from "../../../engine/config.ts";
import { conversation, type TurnScript } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { shared } from "./pieces.ts";
import { logNormalMs, streams } from "./random-numbers.ts";
import { scaledLength } from "./scale.ts";

/** 99th percentile of the tools' times by their median: 81.4 s by 5.2 s in those traces. */
const P99_BY_MEDIAN = 81.4 / 5.2;

export const AGENTIC: GeneratedDataset = {
  from: "options",
  options: [
    "num-prompts",
    "agentic-common-len",
    "agentic-first-len",
    "agentic-turn-len",
    "agentic-output-len",
    "agentic-turns",
    "agentic-tool-time",
    "length-scale",
  ],
  create({ options, seed, writer }) {
    const scaled = (length: number): number => scaledLength(length, options.lengthScale);
    const common = shared(
      writer.opening(streams(seed, "agentic common"), 0, scaled(options.agenticCommonLen)),
    );
    const firsts = streams(seed, "agentic first messages");
    const times = streams(seed, "agentic tool times");
    const maxTokens = scaled(options.agenticOutputLen);
    return Array.from({ length: options.numPrompts }, (_, i) => {
      const results = streams(seed, `agentic tool results of ${i}`);
      const random = times(i);
      const task = writer.following(firsts, i, scaled(options.agenticFirstLen));
      const first: TurnScript = {
        messages: [
          { role: "system", pieces: [common] },
          { role: "user", pieces: [task] },
        ],
        maxTokens,
      };
      const later = Array.from({ length: options.agenticTurns - 1 }, (_, turn): TurnScript => {
        const result = writer.following(results, turn, scaled(options.agenticTurnLen));
        return {
          messages: [{ role: "user", pieces: [result] }],
          maxTokens,
          thinkTimeMs: toolTimeMs(options, random),
        };
      });
      return conversation(writer, {
        id: `agent-${i}`,
        turns: [first, ...later],
        ignoreEos: options.ignoreEos,
      });
    });
  },
};

function toolTimeMs(
  { agenticToolTime: median }: DatasetConfig,
  random: Parameters<typeof logNormalMs>[0],
): number {
  return logNormalMs(random, median, median * P99_BY_MEDIAN);
}
