import { expect, test } from "bun:test";
import { post, startServer, type TestServer } from "../support/server.ts";

const NAME = 'model_name="smollm2",engine="0"';

async function complete(server: TestServer, about: string): Promise<string> {
  const response = await post(server, "/v1/completions", {
    prompt: `${about} `.repeat(300),
    max_tokens: 4,
    temperature: 0,
    ignore_eos: true,
  });
  expect(response.status).toBe(200);
  const { choices } = (await response.json()) as { readonly choices: readonly { text: string }[] };
  return choices[0]!.text;
}

/** The value of a series; `labels` stand before those of the server. */
async function series(server: TestServer, name: string, labels = ""): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name}{${labels}${NAME}}`));
  return Number(line?.slice(line.lastIndexOf(" ") + 1));
}

async function hostPool(server: TestServer): Promise<{ state: string; pages: number }> {
  const health = (await (await fetch(`${server.url}/health`)).json()) as {
    readonly host_pool: { state: string; pages: number; pages_ready: number };
  };
  return health.host_pool;
}

/** Looks, a round trip each time, until the pool has grown; the test's time limit ends it where that never comes. */
async function grown(server: TestServer): Promise<number> {
  const { state, pages } = await hostPool(server);
  return state === "ready" ? pages : grown(server);
}

test("a real server tells where prompt tokens came from, what was moved, and how large the host pool is", async () => {
  await using server = await startServer([
    "--kv-connector=cpu-offload",
    '--kv-connector-options={"mode":"eager"}',
    "--num-gpu-blocks-override=32",
    "--max-model-len=450",
    "--kv-offload-size=64MiB",
    "--served-model-name=smollm2",
  ]);
  await server.saysOnStderr("host pool 6");
  expect(await grown(server)).toBeGreaterThan(100);
  const first = await complete(server, "tea");
  for (const other of ["rain", "stone"]) await complete(server, other);
  expect(await series(server, "vllm:external_prefix_cache_hits_total")).toBe(0);
  expect(await complete(server, "tea")).toBe(first);
  const hits = await series(server, "vllm:external_prefix_cache_hits_total");
  expect(hits).toBeGreaterThan(200);
  const source = 'source="external_kv_transfer",';
  expect(await series(server, "vllm:prompt_tokens_by_source_total", source)).toBe(hits);
  expect(await series(server, "kvengine:prompt_tokens_loaded_total", 'tier="host",')).toBe(hits);
  expect(await series(server, "vllm:kv_offload_load_bytes_total")).toBeGreaterThan(0);
  expect(await series(server, "vllm:kv_offload_store_bytes_total")).toBeGreaterThan(0);
  expect(await series(server, "kvengine:host_pages_used")).toBeGreaterThan(0);

  await complete(server, "stone");
  await post(server, "/reset_prefix_cache?reset_external=false", {});
  expect(await complete(server, "tea")).toBe(first);
  const kept = await series(server, "vllm:external_prefix_cache_hits_total");
  expect(kept).toBeGreaterThan(hits);
  await post(server, "/reset_prefix_cache", {});
  expect(await complete(server, "tea")).toBe(first);
  expect(await series(server, "vllm:external_prefix_cache_hits_total")).toBe(kept);
}, 180_000);
