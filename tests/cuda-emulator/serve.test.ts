/**
 * The product as it is, `kvengine serve --device cuda`, with the emulated driver on the library path: answers do not depend on
 * company, cache, offload or speculation, every access is checked, and what goes wrong on a device is told.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { events, metric, post, runCli, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";
import { buildEmulator, CAN_EMULATE, emulated, type Flavour } from "./build.ts";
import { FEW_SETTINGS } from "./settings.ts";

const LIMIT_MS = 300_000;
/** Of log-probabilities, a tenth of the deviation of the tiny models' logits. */
const TOLERANCE = 0.4;
const folder: string = temporaryFolder();
const MODELS = { full: join(folder, "full.gguf"), hybrid: join(folder, "hybrid.gguf") } as const;

function environment(settings: string, flavour: Flavour = "checked"): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      !entry[0].startsWith("KVENGINE_") && entry[1] !== undefined,
  );
  return { ...Object.fromEntries(inherited), ...emulated(flavour, settings) };
}

function serve(
  model: keyof typeof MODELS,
  settings: string,
  ...args: string[]
): Promise<TestServer> {
  const common = [
    "--device=cuda",
    "--served-model-name=m",
    "--threads=1",
    "--max-num-seqs=8",
    "--max-num-batched-tokens=64",
  ];
  return startServer([...common, ...args], {
    model: MODELS[model],
    // Every byte of device memory is watched, and KV takes what there is.
    env: environment(`${settings},memory=96`),
  });
}

interface Answer {
  readonly text: string;
  readonly logprobs: readonly number[];
}

/** Greedy, with the log-probability of each token: bits, not only words. */
async function ask(server: TestServer, prompt: string, tokens = 12): Promise<Answer> {
  const body = {
    model: "m",
    prompt,
    max_tokens: tokens,
    temperature: 0,
    ignore_eos: true,
    logprobs: 1,
  };
  const response = await post(server, "/v1/completions", body);
  const answer = (await response.json()) as {
    readonly choices: readonly { text: string; logprobs: { token_logprobs: number[] } }[];
  };
  expect([response.status, answer.choices?.length]).toEqual([200, 1]);
  const choice = answer.choices[0];
  return { text: choice?.text ?? "", logprobs: choice?.logprobs.token_logprobs ?? [] };
}

type Ranked = Readonly<Record<string, { readonly logprob: number; readonly rank: number }>>;

/** Of each token of the prompt but the first, by ids: what the model makes of it, and of the two that it finds likeliest there. */
async function score(server: TestServer, prompt: string): Promise<readonly Ranked[]> {
  const body = { model: "m", prompt, max_tokens: 1, temperature: 0, prompt_logprobs: 2 };
  const response = await post(server, "/v1/completions", body);
  const { choices } = (await response.json()) as {
    readonly choices: readonly { readonly prompt_logprobs: readonly (Ranked | null)[] }[];
  };
  return choices[0]?.prompt_logprobs.filter((one) => one !== null) ?? [];
}

/** The likeliest token, and by how much its log-probability is above the next one's. */
function best(tokens: Ranked | undefined): { readonly id: string; readonly gap: number } {
  const [first, next] = Object.entries(tokens ?? {}).toSorted(([, a], [, b]) => a.rank - b.rank);
  return { id: first?.[0] ?? "", gap: (first?.[1].logprob ?? NaN) - (next?.[1].logprob ?? NaN) };
}

/** Requests whose clients have gone. */
async function numAborted(server: TestServer): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(
    /^vllm:request_success_total\{.*finished_reason="abort".*\} (\d+)$/m.exec(text)?.[1],
  );
}

/** Stops it and holds that the emulator had nothing to say. */
async function end(server: TestServer): Promise<void> {
  server.kill("SIGTERM");
  await server.exited;
  expect(server.stderr()).not.toContain("cuda-emulator:");
}

const STORY = "the hen and the fox sat on a wall in the rain and ";
const PROMPTS: readonly string[] = ["", "a", "the cat ", "on the other hand, "].map(
  (start, i) => STORY.repeat(i) + start + STORY,
);
const SMALL = ["--num-gpu-blocks-override=64", "--max-model-len=320"] as const;
/** Enough for each prompt with its answer, too few for all of them at once. The hybrid model has three groups. */
const FEW_BLOCKS = { full: 16, hybrid: 30 } as const;
const PREEMPTIONS = "vllm:num_preemptions_total";

/** Without a common beginning: together more than the device holds in the tests of offload. */
const OTHERS: readonly string[] = ["tea", "rain", "stone", "wind", "grass", "snow"].map((about) =>
  `${about} and `.repeat(18),
);

describe.skipIf(!CAN_EMULATE)("kvengine serve --device cuda on the emulated driver", () => {
  beforeAll(async () => {
    await buildEmulator();
    await writeTinyModel(MODELS.full, { dtype: "Q4_1" });
    await writeTinyModel(MODELS.hybrid, { dtype: "Q4_1", hybrid: true });
  }, 900_000);

  for (const [i, settings] of FEW_SETTINGS.entries()) {
    const model = i === 1 ? "hybrid" : "full";
    test(
      `the ${model} model gives one answer alone, in company, after preemption, from the cache and beside aborts (${settings})`,
      async () => {
        await using server = await serve(
          model,
          settings,
          `--num-gpu-blocks-override=${FEW_BLOCKS[model]}`,
          "--max-model-len=144",
        );
        const alone: Answer[] = [];
        for (const prompt of PROMPTS) alone.push(await ask(server, prompt, 24));
        expect(await metric(server, PREEMPTIONS)).toBe(0);
        await post(server, "/reset_prefix_cache", {});
        const gone = new AbortController();
        const left = post(
          server,
          "/v1/completions",
          { model: "m", prompt: STORY, max_tokens: 100, stream: true, ignore_eos: true },
          gone.signal,
        );
        const stream = events(await left);
        await stream.next();
        const together = Promise.all(PROMPTS.map((prompt) => ask(server, prompt, 24)));
        gone.abort();
        expect(await together).toEqual(alone);
        // Whether one is preempted depends on when each of them comes: again until one was.
        while ((await metric(server, PREEMPTIONS)) === 0) {
          await post(server, "/reset_prefix_cache", {});
          expect(await Promise.all(PROMPTS.map((prompt) => ask(server, prompt, 24)))).toEqual(
            alone,
          );
        }
        const hits = await metric(server, "vllm:prefix_cache_hits_total");
        expect(await Promise.all(PROMPTS.map((prompt) => ask(server, prompt, 24)))).toEqual(alone);
        expect(await metric(server, "vllm:prefix_cache_hits_total")).toBeGreaterThan(hits);
        expect(await numAborted(server)).toBe(1);
        await end(server);
      },
      LIMIT_MS,
    );
  }

  test.each(["full", "hybrid"] as const)(
    "teacher-forced log-probabilities of the %s model are the reference's within what int8 activations leave, and so is the likeliest token",
    async (model) => {
      const prompt = STORY.repeat(3);
      await using server = await serve(model, "seed=9,threads=random,streams=random", ...SMALL);
      const found = await score(server, prompt);
      await end(server);
      const args = ["--device=cpu", "--backend=reference", "--served-model-name=m"];
      await using reference = await startServer([...args, "--threads=2", ...SMALL], {
        model: MODELS[model],
        env: environment(""),
      });
      const expected = await score(reference, prompt);
      expect(found).toHaveLength(expected.length);
      let decided = 0;
      for (const [i, tokens] of expected.entries()) {
        // Each side has the prompt's own token, and both often the same two others.
        const off = Object.entries(tokens).flatMap(([id, { logprob }]) =>
          found[i]?.[id] === undefined ? [] : [Math.abs(found[i][id].logprob - logprob)],
        );
        expect(off.length).toBeGreaterThan(0);
        expect(Math.max(...off)).toBeLessThan(TOLERANCE);
        const { id, gap } = best(tokens);
        if (gap <= 2 * TOLERANCE) continue;
        decided++;
        expect(best(found[i]).id).toBe(id);
      }
      expect(decided).toBeGreaterThan(expected.length / 4);
    },
    LIMIT_MS,
  );

  test(
    "drafts that are verified change no answer, over one split of 256 positions and over two",
    async () => {
      const settings = "seed=2,threads=greedy,streams=random";
      await using plain = await serve("full", settings, ...SMALL);
      await using drafting = await serve("full", settings, ...SMALL, "--speculative=ngram");
      for (const prompt of [...PROMPTS, STORY.repeat(9)]) {
        expect(await ask(drafting, prompt, 24)).toEqual(await ask(plain, prompt, 24));
      }
      expect(await metric(drafting, "vllm:spec_decode_num_accepted_tokens_total")).toBeGreaterThan(
        0,
      );
      await end(plain);
      await end(drafting);
    },
    LIMIT_MS,
  );

  for (const [model, mode, settings] of [
    ["full", "eager", "seed=3,threads=random,streams=random"],
    ["full", "lazy", "seed=4,threads=first,streams=others"],
    ["hybrid", "eager", "seed=5,threads=greedy,streams=lazy"],
  ] as const) {
    test(
      `what the ${model} model offloaded (${mode}) comes back as it was (${settings})`,
      async () => {
        await using server = await serve(
          model,
          settings,
          "--kv-connector=cpu-offload",
          `--kv-connector-options={"mode":"${mode}"}`,
          "--kv-offload-size=4MiB",
          `--num-gpu-blocks-override=${model === "full" ? 26 : 54}`,
          "--max-model-len=160",
        );
        const alone: Answer[] = [];
        for (const prompt of OTHERS) alone.push(await ask(server, prompt, 4));
        for (let round = 0; round < 2; round++) {
          const again: Answer[] = [];
          for (const prompt of OTHERS) again.push(await ask(server, prompt, 4));
          expect(again).toEqual(alone);
          expect(await Promise.all(OTHERS.map((prompt) => ask(server, prompt, 4)))).toEqual(alone);
        }
        expect(await metric(server, "vllm:kv_offload_store_bytes_total")).toBeGreaterThan(0);
        expect(await metric(server, "vllm:kv_offload_load_bytes_total")).toBeGreaterThan(0);
        await end(server);
      },
      LIMIT_MS,
    );
  }

  test(
    "a kernel that fails in flight: every request is answered, and the process ends",
    async () => {
      const server = await serve(
        "full",
        "streams=random,fail:kernel:silu_mul_quantize_f32@40=700",
        ...SMALL,
      );
      const answers = await Promise.all(
        PROMPTS.map((prompt) =>
          post(server, "/v1/completions", {
            model: "m",
            prompt,
            max_tokens: 100,
            ignore_eos: true,
          }),
        ),
      );
      for (const answer of answers) {
        expect(answer.status).toBe(503);
        expect(await answer.text()).toContain("CUDA_ERROR_ILLEGAL_ADDRESS");
      }
      expect(await server.exited).toBe(1);
      expect(server.stderr()).toContain("CUDA_ERROR_ILLEGAL_ADDRESS");
    },
    LIMIT_MS,
  );

  test.each([
    ["devices=0", "--device=cuda", 1, /no device|NO_DEVICE/],
    ["devices=1", "--device=cuda:1", 1, /device 1/],
    ["driver=11080", "--device=cuda", 1, /11\.8.*12\.0.*525/],
    ["capability=75", "--device=cuda", 1, /7\.5.*8\.0/],
    ["memory=1", "--device=cuda", 1, /memory/],
    ["fail:cuModuleLoadData@1=222", "--device=cuda", 1, /UNSUPPORTED_PTX_VERSION/],
  ] as const)(
    "%s is told in one line",
    async (settings, device, code, words) => {
      const run = await runCli(["serve", MODELS.full, "--port", "0", device], {
        env: environment(settings),
      });
      expect(run.stderr).toMatch(words);
      expect(run.code).toBe(code);
    },
    60_000,
  );

  test.each([["devices=0"], ["driver=11080"], ["capability=75"]])(
    "with %s, --device auto computes on the CPU and says why",
    async (settings) => {
      await using server = await startServer(
        ["--device=auto", "--served-model-name=m", "--threads=1"],
        {
          model: MODELS.full,
          env: environment(settings),
        },
      );
      expect(server.stderr()).toContain("no GPU is used, the CPU computes:");
      expect((await ask(server, STORY, 2)).logprobs).toHaveLength(2);
    },
    60_000,
  );
});
