import { beforeAll, describe, expect, test } from "bun:test";
import { wordsOf } from "../../cli/bench/datasets/words.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { renderChat } from "../../engine/tokenizer/chat-template.ts";
import { createTokenizer, type Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { datasetSuite } from "../support/dataset-suite.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";
import { contentLengths, engineIds, firstPrompts, workload } from "../support/workloads.ts";
import { join } from "node:path";

let tokenizer: Tokenizer;
let withBos: Tokenizer;
let tiny: Tokenizer;
let chatTemplate: string;
const folder = temporaryFolder();

beforeAll(async () => {
  const { vocabulary } = await loadModel(defaultModelPath());
  tokenizer = createTokenizer(vocabulary);
  withBos = createTokenizer({ ...vocabulary, addBos: true });
  chatTemplate = vocabulary.chatTemplate ?? "";
  const path = join(folder, "tiny.gguf");
  await writeTinyModel(path);
  tiny = createTokenizer((await loadModel(path)).vocabulary);
});

datasetSuite("the default model's tokenizer", () => tokenizer);
datasetSuite("the same with a token before each text", () => withBos, { addsSpecial: true });
datasetSuite("a tokenizer of letters that run together", () => tiny, { isExact: false });

describe("with the default model's tokenizer", () => {
  test("prompts are made of thousands of words that stay apart", () => {
    const words = wordsOf(tokenizer);
    expect(words.exact).toBe(true);
    expect(words.all.length).toBeGreaterThan(5000);
    expect(words.first.length).toBeGreaterThan(1000);
    for (const id of words.first.subarray(0, 100))
      expect(tokenizer.decode([id])).toMatch(/^ [a-z]+$/);
  });

  test("long texts are exact as well", () => {
    for (const form of ["text", "tokens"]) {
      const made = workload(tokenizer, "random", {
        "num-prompts": 3,
        "random-input-len": 5000,
        "random-range-ratio": 0.5,
        "prompt-form": form,
      });
      for (const { turns } of made.conversations) {
        const [turn] = turns;
        expect(turn!.numPromptTokens).toBeWithin(2500, 7501);
        expect(engineIds(tokenizer, turn!.prompt([]))).toHaveLength(turn!.numPromptTokens!);
      }
    }
  });

  test("blocks of a trace cost the same as ids and as text, and as text the same tokens", () => {
    const rows = [
      { timestamp: 0, input_length: 1300, output_length: 3, hash_ids: [1, 2, 3] },
      { timestamp: 0, input_length: 1540, output_length: 3, hash_ids: [1, 2, 4, 5] },
    ];
    const text = rows.map((row) => JSON.stringify(row)).join("\n");
    for (const one of [tokenizer, withBos]) {
      const make = (form: string): number[][] =>
        firstPrompts(one, workload(one, "mooncake", { "prompt-form": form }, { text }));
      expect(make("tokens").map((ids) => ids.length)).toEqual([1300, 1540]);
      expect(make("text")).toEqual(make("tokens"));
    }
    const chat = workload(tokenizer, "mooncake", { "prompt-form": "chat" }, { text });
    expect(
      chat.conversations.map(({ turns }) => contentLengths(tokenizer, turns[0]!.prompt([]))),
    ).toEqual([[1300], [1540]]);
  });

  test("the model's chat template adds the same to every prompt of messages", () => {
    const made = workload(tokenizer, "generated-shared-prefix", {
      "gsp-num-groups": 4,
      "gsp-prompts-per-group": 3,
      "gsp-system-prompt-len": 40,
      "gsp-question-len": 20,
      "prompt-form": "chat",
    });
    const lengths = made.conversations.map(({ turns }) => {
      const prompt = turns[0]!.prompt([]);
      if (prompt.kind !== "chat") throw new Error("not a chat");
      const text = renderChat(chatTemplate, prompt.messages, {
        addGenerationPrompt: true,
        bosToken: "",
        eosToken: "",
      });
      return tokenizer.encode(text, { parseSpecial: true }).length;
    });
    expect(new Set(lengths).size).toBe(1);
    expect(lengths[0]).toBeWithin(61, 90);
  });

  test("a real chat's lengths are those of its texts", () => {
    const text = JSON.stringify([
      {
        conversations: [
          { value: "What is the capital of France?" },
          { value: "It is Paris, of course." },
        ],
      },
    ]);
    const turn = workload(tokenizer, "sharegpt", {}, { text }).conversations[0]!.turns[0]!;
    expect(engineIds(tokenizer, turn.prompt([]))).toHaveLength(7);
    expect([turn.numPromptTokens, turn.maxTokens]).toEqual([7, 7]);
  });
});
