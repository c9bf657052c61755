import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { wordsOf } from "../../../cli/bench/datasets/words.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import { ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { JoiningTokenizer } from "../../support/joining-tokenizer.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { thrownBy } from "../../support/thrown.ts";
import { contentLengths, engineIds, everything, workload } from "../../support/workloads.ts";

describe("the words that prompts are made of", () => {
  test("are letters where each byte is a token, and stay one token each", () => {
    const { all, first, exact } = wordsOf(new ByteTokenizer());
    expect(new ByteTokenizer().decode(all)).toBe("abcdefghijklmnopqrstuvwxyz");
    expect([first, exact]).toEqual([all, true]);
  });

  test("are known not to be exact where tokens run together", () => {
    expect(wordsOf(new JoiningTokenizer()).exact).toBe(false);
  });

  test("must be there", async () => {
    const error = await thrownBy(() => workload(new Wordless(), "random", { "num-prompts": 1 }));
    expect([error.code, error.subject]).toEqual(["unsupported", "--tokenizer"]);
  });

  test("are not needed for prompts that are read from a file", () => {
    const made = workload(new Wordless(), "custom", {}, { text: '{"prompt":"12"}' });
    expect(made.conversations[0]!.turns[0]!.numPromptTokens).toBe(2);
  });
});

describe("texts of a tokenizer that joins words", () => {
  const joining = new JoiningTokenizer();

  test("have exactly as many tokens as were asked for", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 0, max: 1000 }),
        (inputLen, prefixLen, seed) => {
          for (const form of ["tokens", "text", "chat"]) {
            const flags = {
              "num-prompts": 3,
              "random-input-len": inputLen,
              "random-prefix-len": prefixLen,
              "prompt-form": form,
            };
            for (const { turns } of workload(joining, "random", flags, { seed }).conversations) {
              const prompt = turns[0]!.prompt([]);
              const length =
                prompt.kind === "chat"
                  ? contentLengths(joining, prompt)[0]
                  : engineIds(joining, prompt).length;
              expect(length).toBe(inputLen + prefixLen);
            }
          }
        },
      ),
      propertyRuns(60),
    );
  });

  test("are found where what was cut off would come back", () => {
    const { conversations } = workload(new VowelTokenizer(), "random", {
      "num-prompts": 100,
      "random-input-len": 6,
      "prompt-form": "text",
    });
    for (const { turns } of conversations)
      expect(engineIds(new VowelTokenizer(), turns[0]!.prompt([]))).toHaveLength(6);
  });

  test("are the same at every call", () => {
    const make = (): unknown =>
      everything(workload(joining, "multi-turn", { "num-prompts": 3, "prompt-form": "text" }), {
        text: "yes",
      });
    expect(make()).toEqual(make());
  });

  test("are refused where there is none of that length", async () => {
    const made = workload(new OddTokenizer(), "random", {
      "num-prompts": 1,
      "random-input-len": 6,
      "prompt-form": "text",
    });
    const error = await thrownBy(() => made.conversations[0]!.turns[0]!.prompt([]));
    expect([error.code, error.subject]).toEqual(["unsupported", "--prompt-form"]);
    expect(error.hint).toContain("--prompt-form tokens");
  });
});

/** No letters among its tokens. */
class Wordless extends ByteTokenizer implements Tokenizer {
  override tokenText(id: number): string | undefined {
    const text = super.tokenText(id);
    return text !== undefined && /[a-z]/.test(text) ? undefined : text;
  }
}

/** Any text of more than a byte has an odd number of tokens. */
class OddTokenizer extends ByteTokenizer implements Tokenizer {
  override encode(...args: Parameters<ByteTokenizer["encode"]>): Int32Array {
    const ids = super.encode(...args);
    return ids.length % 2 === 1 || ids.length === 0 ? ids : Int32Array.of(...ids, 32);
  }
}

/** A text that ends in a vowel has a token more, one without bytes. */
class VowelTokenizer extends ByteTokenizer implements Tokenizer {
  override encode(...args: Parameters<ByteTokenizer["encode"]>): Int32Array {
    const ids = super.encode(...args);
    return ids.length > 1 && /[aeiou]$/.test(args[0]) ? Int32Array.of(...ids, 258) : ids;
  }
}
