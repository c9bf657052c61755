/** What holds of every generated data set, whatever the tokenizer: run for the byte tokenizer and for a real one. */

import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { propertyRuns } from "./property-runs.ts";
import {
  answerOf,
  commonPrefix,
  commonPrefixes,
  contentLengths,
  engineIds,
  everything,
  firstPrompts,
  type Flags,
  workload,
} from "./workloads.ts";

const SMALL: Readonly<Record<string, Flags>> = {
  random: {
    "num-prompts": 12,
    "random-input-len": 40,
    "random-output-len": 9,
    "random-prefix-len": 17,
  },
  prefix_repetition: {
    "num-prompts": 13,
    "prefix-repetition-num-prefixes": 3,
    "prefix-repetition-prefix-len": 33,
    "prefix-repetition-suffix-len": 7,
    "prefix-repetition-output-len": 5,
  },
  "generated-shared-prefix": {
    "gsp-num-groups": 3,
    "gsp-prompts-per-group": 4,
    "gsp-system-prompt-len": 30,
    "gsp-question-len": 11,
    "gsp-output-len": 6,
  },
  "multi-turn": {
    "num-prompts": 4,
    "multi-turn-turns": 3,
    "multi-turn-common-len": 20,
    "multi-turn-first-len": 15,
    "multi-turn-message-len": 9,
    "multi-turn-output-len": 5,
    "multi-turn-think-time": 1000,
  },
  agentic: { "num-prompts": 3, "agentic-turns": 4, "length-scale": 0.003 },
  "long-document": {
    "long-document-num-documents": 3,
    "long-document-document-len": 50,
    "long-document-question-len": 8,
    "long-document-output-len": 4,
    "long-document-repeat-count": 3,
  },
};

/** Tokens of a first turn's prompt and of its messages, and of an answer. */
const LENGTHS: Readonly<
  Record<string, { readonly prompt: number; readonly chat: number[]; readonly output: number }>
> = {
  random: { prompt: 57, chat: [57], output: 9 },
  prefix_repetition: { prompt: 40, chat: [40], output: 5 },
  "generated-shared-prefix": { prompt: 41, chat: [30, 11], output: 6 },
  "multi-turn": { prompt: 35, chat: [20, 15], output: 5 },
  agentic: { prompt: 90, chat: [60, 30], output: 3 },
  "long-document": { prompt: 58, chat: [58], output: 4 },
};

/**
 * `isExact`: whether texts share as many tokens as ids do; not so where tokens run together.
 * `addsSpecial`: whether the tokenizer puts a token before each text.
 */
export function datasetSuite(
  title: string,
  tokenizer: () => Tokenizer,
  {
    isExact = true,
    addsSpecial = false,
  }: { readonly isExact?: boolean; readonly addsSpecial?: boolean } = {},
): void {
  const numSpecial = addsSpecial ? 1 : 0;
  describe(`generated data sets: ${title}`, () => {
    for (const name of Object.keys(SMALL)) {
      const flags = SMALL[name] ?? {};
      const { prompt, chat, output } = LENGTHS[name]!;

      test(`${name} costs exactly what was asked, as ids, text and messages`, () => {
        for (const form of ["tokens", "text"] as const) {
          const made = workload(tokenizer(), name, { ...flags, "prompt-form": form });
          for (const { turns } of made.conversations) {
            const [first] = turns;
            expect(engineIds(tokenizer(), first!.prompt([]))).toHaveLength(prompt);
            expect(first!.numPromptTokens).toBe(prompt);
            for (const turn of turns) expect(turn.maxTokens).toBe(output);
          }
        }
        const made = workload(tokenizer(), name, { ...flags, "prompt-form": "chat" });
        for (const { turns } of made.conversations) {
          expect(contentLengths(tokenizer(), turns[0]!.prompt([]))).toEqual(chat);
          expect(turns[0]!.numPromptTokens).toBeUndefined();
        }
      });

      test(`${name} is the same for the same seed, and another for another`, () => {
        const answer = answerOf(tokenizer(), [
          ...tokenizer().encode("so", { parseSpecial: false }),
        ]);
        for (const form of ["tokens", "text", "chat"]) {
          const make = (seed: number): unknown =>
            everything(
              workload(tokenizer(), name, { ...flags, "prompt-form": form }, { seed }),
              answer,
            );
          expect(make(5)).toEqual(make(5));
          expect(make(5)).not.toEqual(make(6));
        }
      });

      test(`${name} has unique ids, and no prompt twice`, () => {
        const made = workload(tokenizer(), name, flags);
        expect(new Set(made.conversations.map(({ id }) => id)).size).toBe(
          made.conversations.length,
        );
        const prompts = firstPrompts(tokenizer(), made).map((ids) => ids.join());
        expect(new Set(prompts).size).toBe(prompts.length);
      });

      if (isExact) {
        test(`${name} gives the engine the same tokens as ids and as text`, () => {
          const texts = workload(tokenizer(), name, { ...flags, "prompt-form": "text" });
          const ids = workload(tokenizer(), name, { ...flags, "prompt-form": "tokens" });
          expect(firstPrompts(tokenizer(), texts)).toEqual(firstPrompts(tokenizer(), ids));
        });
      }
    }

    test("random prompts share the prefix and nothing else", () => {
      expect(
        commonPrefixes(firstPrompts(tokenizer(), workload(tokenizer(), "random", SMALL["random"]))),
      ).toEqual([17]);
      const alone = { ...SMALL["random"], "random-prefix-len": 0 };
      expect(
        commonPrefixes(firstPrompts(tokenizer(), workload(tokenizer(), "random", alone))),
      ).toEqual([numSpecial]);
    });

    test("prompts of a prefix, of a group and of a document share it and nothing else", () => {
      const expected = {
        prefix_repetition: 33,
        "generated-shared-prefix": 30,
        "long-document": 50,
      };
      for (const [name, shared] of Object.entries(expected)) {
        const prompts = firstPrompts(tokenizer(), workload(tokenizer(), name, SMALL[name]));
        expect([name, commonPrefixes(prompts)]).toEqual([name, [numSpecial, shared]]);
      }
    });

    test("the first prompts are the same whether few or many are made", () => {
      for (const name of ["random", "multi-turn", "agentic"]) {
        const few = workload(tokenizer(), name, { ...SMALL[name], "num-prompts": 2 });
        const many = workload(tokenizer(), name, { ...SMALL[name], "num-prompts": 9 });
        expect(firstPrompts(tokenizer(), many).slice(0, 2)).toEqual(firstPrompts(tokenizer(), few));
      }
    });

    test("random lengths keep within the ratio, and reach both ends of it", () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 2, max: 60 }),
          fc.integer({ min: 1, max: 60 }),
          fc.double({ min: 0, max: 0.9, noNaN: true }),
          fc.integer({ min: 0, max: 1000 }),
          (inputLen, outputLen, ratio, seed) => {
            const flags = {
              "num-prompts": 300,
              "random-input-len": inputLen,
              "random-output-len": outputLen,
              "random-range-ratio": ratio.toFixed(6),
            };
            const made = workload(tokenizer(), "random", flags, { seed });
            const turns = made.conversations.map((one) => one.turns[0]!);
            const given = Number(ratio.toFixed(6));
            const range = (length: number): number[] => [
              Math.max(1, Math.floor(length * (1 - given))),
              Math.max(1, Math.ceil(length * (1 + given))),
            ];
            const [low = 0, high = 0] = range(inputLen);
            for (const turn of turns) {
              expect(turn.numPromptTokens).toBeWithin(low, high + 1);
              expect(turn.maxTokens).toBeWithin(range(outputLen)[0]!, range(outputLen)[1]! + 1);
            }
            expect(turns[0]!.prompt([])).toMatchObject({
              tokenIds: { length: turns[0]!.numPromptTokens },
            });
            if (high - low < 20) {
              const lengths = new Set(turns.map((turn) => turn.numPromptTokens));
              expect([lengths.has(low), lengths.has(high)]).toEqual([true, true]);
            }
          },
        ),
        propertyRuns(15),
      );
    });

    test("each turn of a chat holds the prompt and the answer before it, by the server's ids", () => {
      for (const name of ["multi-turn", "agentic"]) {
        const made = workload(tokenizer(), name, SMALL[name]);
        for (const { turns } of made.conversations) {
          const answers = turns.map((_, i) => answerOf(tokenizer(), [7 + i, 3, 5]));
          const prompts = turns.map((turn, i) =>
            engineIds(tokenizer(), turn.prompt(answers.slice(0, i))),
          );
          for (const [i, prompt] of prompts.entries()) {
            const next = prompts[i + 1];
            if (next === undefined) continue;
            const history = [...prompt, ...answers[i]!.tokenIds!];
            expect(commonPrefix(history, next)).toBe(history.length);
            expect(next.length - history.length).toBe(name === "agentic" ? 6 : 9);
          }
        }
        expect(commonPrefixes(firstPrompts(tokenizer(), made))).toEqual([
          name === "agentic" ? 60 : 20,
        ]);
      }
    });

    test("each turn of a chat holds the answer as text where the server tells no ids", () => {
      const { conversations } = workload(tokenizer(), "multi-turn", SMALL["multi-turn"]);
      const [first, second] = conversations[0]!.turns;
      const before = engineIds(tokenizer(), first!.prompt([]));
      const text = "an answer";
      const said = [...tokenizer().encode(text, { parseSpecial: false })];
      expect(engineIds(tokenizer(), second!.prompt([{ text }])).slice(0, -9)).toEqual([
        ...before,
        ...said,
      ]);
    });

    test("messages take turns, and answers are the assistant's", () => {
      const flags = { ...SMALL["multi-turn"], "prompt-form": "chat" };
      const { conversations } = workload(tokenizer(), "multi-turn", flags);
      const prompt = conversations[0]!.turns[2]!.prompt([{ text: "one" }, { text: "two" }]);
      if (prompt.kind !== "chat") throw new Error("not a chat");
      expect(prompt.messages.map(({ role }) => role)).toEqual([
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
      ]);
      expect(prompt.messages[2]!.content).toBe("one");
      const lengths = contentLengths(tokenizer(), prompt);
      expect([0, 1, 3, 5].map((i) => lengths[i])).toEqual([20, 15, 9, 9]);
      for (const { content } of prompt.messages) expect(content).toBe(content.trim());
    });
  });
}
