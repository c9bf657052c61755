/** `/metrics` of a real server with a disk: bytes, times, hits, failures and sizes of each tier, each right. */

import { expect, test } from "bun:test";
import { post, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const LIMIT = 64 * 2 ** 20;

/** Tokens that came from each tier. */
async function complete(server: TestServer, about: string): Promise<Record<string, number>> {
  const response = await post(server, "/v1/completions", {
    prompt: `${about} `.repeat(200),
    ...{ max_tokens: 4, temperature: 0, ignore_eos: true },
  });
  expect(response.status).toBe(200);
  const { usage } = (await response.json()) as {
    readonly usage: {
      readonly prompt_tokens_details?: {
        readonly cached_tokens_details?: Record<string, number>;
      };
    };
  };
  return usage.prompt_tokens_details?.cached_tokens_details ?? {};
}

/** All series as they are rendered, without the labels of the whole server and of the connector. */
async function read(server: TestServer): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const found = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const own = labels
      .split(",")
      .filter((label) => !/^(model_name|engine|connector)=/.test(label))
      .toSorted();
    found.set(own.length === 0 ? name : `${name}{${own.join()}}`, Number(value));
  }
  return found;
}

/** Looks, a round trip each time, until nothing waits to be written; the test's time limit ends it where that never comes. */
async function written(server: TestServer): Promise<ReadonlyMap<string, number>> {
  const all = await read(server);
  const done = all.get('kvengine_connector_tier_to_store{tier="disk"}') === 0;
  return done && (all.get('kvengine_connector_tier_pages{tier="disk"}') ?? 0) > 10
    ? all
    : written(server);
}

const tierOf = (name: string, kind: string, more = ""): string =>
  `kvengine_connector_tier_${name}_total{kind="${kind}",${more}tier="disk"}`;

test("tell bytes, times, hits, failures and sizes by tier, in vLLM's names where it has them", async () => {
  await using server = await startServer([
    ...["--num-gpu-blocks-override=20", "--max-model-len=300", "--kv-offload-size=6MiB"],
    ...["--kv-connector=cpu-offload", '--kv-connector-options={"cpu-offload":{"mode":"eager"}}'],
    ...["--kv-disk-path", folder, `--kv-disk-size=${LIMIT}`],
  ]);
  const before = await read(server);
  // Each series is there before its first event.
  for (const kind of ["load", "store"]) {
    for (const outcome of ["ok", "none", "failed", "late", "wrong"])
      expect(before.get(tierOf("pages", kind, `outcome="${outcome}",`))).toBe(0);
    expect([before.get(tierOf("bytes", kind)), before.get(tierOf("seconds", kind))]).toEqual([
      0, 0,
    ]);
  }
  const seen: Record<string, number> = {};
  for (const about of ["tea", "rain", "stone", "bread", "tea"]) {
    for (const [tier, tokens] of Object.entries(await complete(server, about)))
      seen[tier] = (seen[tier] ?? 0) + tokens;
    await written(server);
  }
  expect(seen["disk"]).toBeGreaterThan(0);
  const after = await written(server);
  const of = (name: string): number => after.get(name) ?? Number.NaN;

  // Bytes are whole pages, and those of the device's blocks are the host's.
  const pageBytes = of(tierOf("bytes", "store")) / of(tierOf("pages", "store", 'outcome="ok",'));
  expect(pageBytes).toBeGreaterThan(100_000);
  expect(Number.isInteger(pageBytes)).toBe(true);
  const loaded = of(tierOf("pages", "load", 'outcome="ok",'));
  expect(loaded).toBeGreaterThan(0);
  expect(of(tierOf("bytes", "load"))).toBe(loaded * pageBytes);
  for (const kind of ["load", "store"]) {
    expect(of(tierOf("seconds", kind))).toBeGreaterThan(0);
    for (const outcome of ["failed", "late", "wrong"])
      expect(of(tierOf("pages", kind, `outcome="${outcome}",`))).toBe(0);
  }
  expect(of('kvengine:connector_bytes_total{kind="store",tier="host"}') % pageBytes).toBe(0);
  expect(of("vllm:kv_offload_store_bytes_total") % pageBytes).toBe(0);
  expect(of("vllm:kv_offload_load_time_total")).toBeGreaterThan(0);

  // Hits are what the answers said.
  for (const tier of ["host", "disk"])
    expect(of(`kvengine:prompt_tokens_loaded_total{tier="${tier}"}`) || 0).toBe(seen[tier] ?? 0);
  const external = (seen["host"] ?? 0) + (seen["disk"] ?? 0);
  expect(of("vllm:external_prefix_cache_hits_total")).toBe(external);
  expect(of("vllm:external_prefix_cache_queries_total")).toBeGreaterThanOrEqual(external);

  // Sizes: within the limit, no less than the pages.
  const pages = of('kvengine_connector_tier_pages{tier="disk"}');
  const bytes = of('kvengine_connector_tier_bytes{tier="disk"}');
  // Of the limit, a part is for the records of frozen sessions.
  expect(of('kvengine_connector_tier_limit_bytes{tier="disk"}')).toBe(LIMIT - LIMIT / 256);
  expect(pages).toBe(of(tierOf("pages", "store", 'outcome="ok",')));
  expect(bytes).toBeWithin(pages * pageBytes, LIMIT + 1);
  expect(of("kvengine:host_pages_used")).toBeWithin(1, of("kvengine:host_pages") + 1);
  expect(of("vllm:kv_offload_cpu_cache_usage_perc")).toBeWithin(0, 1.01);
}, 120_000);
