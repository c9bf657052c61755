/**
 * What goes wrong with a device, one thing at a time, by the failures that the emulated driver plays: at the start it is told what
 * was needed and what there is; in flight every request is answered, and the process serves on or ends.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { metric, post, runCli, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";
import { buildEmulator, CAN_EMULATE, emulated } from "./build.ts";

const LIMIT_MS = 120_000;
const MODEL: string = join(temporaryFolder(), "tiny.gguf");
const SMALL = ["--num-gpu-blocks-override=64", "--max-model-len=320", "--threads=1"] as const;

function environment(settings: string): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      !entry[0].startsWith("KVENGINE_") && entry[1] !== undefined,
  );
  // Orders are other tests' business: here nothing is checked, which is faster.
  return { ...Object.fromEntries(inherited), ...emulated("fast", settings) };
}

function serve(settings: string, ...args: string[]): Promise<TestServer> {
  const common = ["--served-model-name=m", "--max-num-seqs=8", "--max-num-batched-tokens=64"];
  return startServer([...common, ...args], { model: MODEL, env: environment(settings) });
}

function run(settings: string, ...args: string[]): ReturnType<typeof runCli> {
  return runCli(["serve", MODEL, "--port", "0", ...args], { env: environment(settings) });
}

const PROMPTS = ["the hen sat on a wall", "a fox", "rain and more rain"] as const;

function ask(server: TestServer, prompt: string, tokens = 8): Promise<Response> {
  const body = { model: "m", prompt, max_tokens: tokens, temperature: 0, ignore_eos: true };
  return post(server, "/v1/completions", body);
}

interface HostPool {
  readonly state: string;
  readonly pages: number;
  readonly pages_ready: number;
}

async function hostPool(server: TestServer): Promise<HostPool> {
  const health = (await (await fetch(`${server.url}/health`)).json()) as { host_pool: HostPool };
  return health.host_pool;
}

/** By kind, how many flights have failed. */
async function failedFlights(server: TestServer): Promise<Record<string, string>> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const failed = metrics.matchAll(
    /flights_ended_total\{.*kind="(.*?)",outcome="failed".*\} (\d+)/g,
  );
  return Object.fromEntries([...failed].map(([, kind = "", count = ""]) => [kind, count]));
}

async function statuses(server: TestServer): Promise<number[]> {
  const answers = await Promise.all(PROMPTS.map((prompt) => ask(server, prompt, 40)));
  await Promise.all(answers.map((answer) => answer.text()));
  return answers.map(({ status }) => status);
}

describe.skipIf(!CAN_EMULATE)("on a device that fails", () => {
  beforeAll(async () => {
    await buildEmulator();
    await writeTinyModel(MODEL, { dtype: "Q4_1" });
  }, 900_000);

  describe("at the start", () => {
    test(
      "a device with too little memory is an error with what is needed, what is free and what to do",
      async () => {
        const planned = await run("memory=64", "--device=cuda");
        expect(planned.stderr).toMatch(
          /the model needs \d+ MiB of device memory and \d+ MiB for KV at least; of 64 MiB there are 64 MiB free/,
        );
        expect(planned.stderr).toContain("--device cpu");
        expect(planned.code).toBe(1);
        // The number of blocks is given, so nobody plans.
        const taken = await run("memory=1", "--device=cuda", ...SMALL);
        expect(taken.stderr).toMatch(
          /\d+ bytes of device memory cannot be had.*OUT_OF_MEMORY.*\(\d+ of 1048576 are free\)/,
        );
        expect(taken.stderr).toContain("--device cpu");
        expect(taken.code).toBe(1);
      },
      LIMIT_MS,
    );

    test.each([
      ["memory=64", "the model needs"],
      ["fail:cuMemAlloc_v2@5=2", "OUT_OF_MEMORY"],
      ["fail:cuModuleLoadData@1=222", "UNSUPPORTED_PTX_VERSION"],
    ])(
      "with --device auto and %s the CPU computes, and it is said why",
      async (settings, why) => {
        await using server = await serve(settings, "--device=auto");
        expect(server.stderr()).toContain("no GPU is used, the CPU computes:");
        expect(server.stderr()).toContain(why);
        expect((await ask(server, PROMPTS[0])).status).toBe(200);
      },
      LIMIT_MS,
    );

    test(
      "there are as many KV blocks as fit, and it is said how many",
      async () => {
        await using server = await serve(
          "memory=128",
          "--device=cuda",
          "--num-gpu-blocks-override=1000000",
        );
        const [, fit, asked] =
          /(\d+) KV blocks fit in the device's memory, not (\d+)/.exec(server.stderr()) ?? [];
        expect(asked).toBe("1000000");
        expect(Number(fit)).toBeGreaterThan(2);
        expect(await statuses(server)).toEqual([200, 200, 200]);
      },
      LIMIT_MS,
    );

    test(
      "graphs that do not fit are done without",
      async () => {
        await using server = await serve(
          "fail:cuGraphInstantiateWithFlags@2=2",
          "--device=cuda",
          ...SMALL,
        );
        expect(await statuses(server)).toEqual([200, 200, 200]);
      },
      LIMIT_MS,
    );

    test(
      "a host pool that cannot be pinned is one that stays empty",
      async () => {
        await using server = await serve(
          "fail:cuMemHostRegister_v2@1=2",
          "--device=cuda",
          ...SMALL,
          "--kv-connector=cpu-offload",
          "--kv-offload-size=4MiB",
        );
        expect(await statuses(server)).toEqual([200, 200, 200]);
        // Another thread pins, and gives way to those that serve.
        let pool = await hostPool(server);
        while (pool.state === "growing") pool = await hostPool(server);
        expect(pool).toMatchObject({ state: "ready", pages_ready: 0 });
      },
      LIMIT_MS,
    );
  });

  test(
    "a host pool is pinned while requests are served, and /health tells how far it is",
    async () => {
      await using server = await serve(
        "",
        "--device=cuda",
        ...SMALL,
        "--kv-connector=cpu-offload",
        "--kv-offload-size=256MiB",
      );
      expect(await statuses(server)).toEqual([200, 200, 200]);
      let pool = await hostPool(server);
      while (pool.pages_ready === 0) pool = await hostPool(server);
      expect(pool.state).toBe("growing");
      expect(pool.pages_ready).toBeLessThan(pool.pages);
    },
    LIMIT_MS,
  );

  describe("in flight", () => {
    test(
      "a step that finds no memory is an error for its requests, and the next ones are served",
      async () => {
        await using server = await serve("fail:cuGraphLaunch@3=2", "--device=cuda", ...SMALL);
        const failed = await statuses(server);
        expect(failed.filter((status) => status !== 200).length).toBeGreaterThan(0);
        expect(await statuses(server)).toEqual([200, 200, 200]);
      },
      LIMIT_MS,
    );

    test.each([
      ["a launch that fails for good", "fail:cuGraphLaunch@3=719", "CUDA_ERROR_LAUNCH_FAILED"],
      [
        "a kernel that fails for good",
        "fail:kernel:add_rms_norm_quantize_f32@30=700",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
      ],
      ["a device that is lost", "fail:cuStreamSynchronize@60=999", "CUDA_ERROR_UNKNOWN"],
    ])(
      "%s: every request is answered, and the process ends",
      async (_, settings, words) => {
        await using server = await serve(settings, "--device=cuda", ...SMALL);
        const answers = await Promise.all(PROMPTS.map((prompt) => ask(server, prompt, 200)));
        for (const answer of answers) {
          expect(answer.status).toBe(503);
          expect(await answer.text()).toContain(words);
        }
        expect(await server.exited).toBe(1);
        expect(server.stderr()).toContain(words);
      },
      LIMIT_MS,
    );

    test.each([
      "driver=12040,fail:cuMemcpyAsync@2=1",
      "driver=12080,fail:cuMemcpyBatchAsync@2=201",
    ])(
      "a copy of pages that fails costs what it would have kept, and no answer (%s)",
      async (settings) => {
        await using server = await serve(
          settings,
          "--device=cuda",
          "--num-gpu-blocks-override=26",
          "--max-model-len=300",
          "--kv-connector=cpu-offload",
          '--kv-connector-options={"mode":"eager"}',
          "--kv-offload-size=4MiB",
        );
        // Prompts of several blocks, which are stored in one flight.
        for (const about of ["tea", "stone", "wind", "grass"]) {
          const answer = await ask(server, `${about} and `.repeat(18));
          await answer.text();
          expect(answer.status).toBe(200);
        }
        // Flights end beside what is served.
        const storeBytes = "vllm:kv_offload_store_bytes_total";
        let failed = await failedFlights(server);
        while (Number(failed["store"] ?? 0) === 0 || (await metric(server, storeBytes)) === 0) {
          failed = await failedFlights(server);
        }
        expect(failed).toEqual({ load: "0", store: "1" });
      },
      LIMIT_MS,
    );
  });
});
