/** The default model on the emulated device, unchecked (so that it takes seconds): the answer is the cpu's, as far as two roundings agree. */
import { beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { defaultModelPath } from "../support/default-model.ts";
import { post, startServer, type TestServer } from "../support/server.ts";
import { buildEmulator, CAN_EMULATE, emulated } from "./build.ts";

const TOKENS = 16;
/** Logits differ by the rounding of activations; where the two likeliest tokens are this close, either may win. */
const CLOSE = 0.3;

interface Logprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly number[];
  readonly top_logprobs: readonly Readonly<Record<string, number>>[];
}

function serve(device: string): Promise<TestServer> {
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      !entry[0].startsWith("KVENGINE_") && entry[1] !== undefined,
  );
  const sizes = ["--num-gpu-blocks-override=40", "--max-model-len=256", "--max-num-seqs=2"];
  return startServer([`--device=${device}`, "--served-model-name=m", ...sizes], {
    env: { ...Object.fromEntries(inherited), ...emulated("fast", "threads=greedy,seed=1") },
  });
}

async function ask(device: string): Promise<Logprobs> {
  await using server = await serve(device);
  const response = await post(server, "/v1/completions", {
    model: "m",
    prompt: "The lighthouse keeper counted",
    max_tokens: TOKENS,
    temperature: 0,
    ignore_eos: true,
    logprobs: 2,
  });
  const { choices } = (await response.json()) as { choices: readonly { logprobs: Logprobs }[] };
  expect(server.stderr()).not.toContain("cuda-emulator:");
  const logprobs = choices[0]?.logprobs;
  if (logprobs === undefined) throw new Error("no answer");
  return logprobs;
}

describe.skipIf(!CAN_EMULATE || !existsSync(defaultModelPath()))(
  "the default model (skipped without its file)",
  () => {
    beforeAll(() => buildEmulator(), 900_000);

    test(`computes ${TOKENS} tokens on the emulated device as on the cpu`, async () => {
      const expected = await ask("cpu");
      const found = await ask("cuda");
      expect(found.tokens).toHaveLength(TOKENS);
      let same = 0;
      while (same < TOKENS && found.tokens[same] === expected.tokens[same]) {
        expect(
          Math.abs((found.token_logprobs[same] ?? 0) - (expected.token_logprobs[same] ?? 0)),
        ).toBeLessThan(CLOSE);
        same++;
      }
      if (same === TOKENS) return;
      // They part ways where the cpu could not decide, either.
      const [best = 0, next = -Infinity] = Object.values(
        expected.top_logprobs[same] ?? {},
      ).toSorted((a, b) => b - a);
      expect(best - next).toBeLessThan(2 * CLOSE);
      expect(same).toBeGreaterThan(2);
    }, 300_000);
  },
);
