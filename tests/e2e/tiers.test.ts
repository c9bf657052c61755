/** Real servers with the default model: what left device and host comes back from a tier, and what lies on a disk after a restart. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { events, post, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();

interface Answer {
  readonly text: string;
  /** Prompt tokens by where they came from. */
  readonly tiers: Readonly<Record<string, number>>;
}

async function complete(server: TestServer, about: string): Promise<Answer> {
  const response = await post(server, "/v1/completions", {
    prompt: `${about} `.repeat(200),
    max_tokens: 4,
    temperature: 0,
    ignore_eos: true,
  });
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    readonly choices: readonly { readonly text: string }[];
    readonly usage: {
      readonly prompt_tokens_details?: {
        readonly cached_tokens_details?: Readonly<Record<string, number>>;
      };
    };
  };
  const tiers = usage.prompt_tokens_details?.cached_tokens_details ?? {};
  return { text: choices[0]!.text, tiers };
}

const ON_DISK = /^kvengine_connector_tier_pages\{[^}]*tier="disk"[^}]*\} (\d+)$/m;
const WRITTEN = /^kvengine_connector_written_pages_total\{[^}]*\} (\d+)$/m;
const READ = /^kvengine_connector_read_pages_total\{[^}]*\} (\d+)$/m;

/** Looks, a round trip each time, until so many pages lie on the disk; the test's time limit ends it where that never comes. */
async function stored(server: TestServer, pages: number, series = ON_DISK): Promise<void> {
  if ((await counted(server, series)) < pages) await stored(server, pages, series);
}

async function counted(server: TestServer, series: RegExp): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(series.exec(text)?.[1] ?? 0);
}

/** The server ends in order. */
async function ended(server: TestServer): Promise<void> {
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
}

/** A device of 20 blocks; host pages for a few more. */
const SMALL = [
  "--num-gpu-blocks-override=20",
  "--max-model-len=300",
  "--kv-offload-size=6MiB",
  "--kv-connector=cpu-offload",
];
const EAGER = { "cpu-offload": { mode: "eager" } };

test("a tier that is a file of TypeScript brings back what left the device and the host's pages", async () => {
  const tier = join(import.meta.dir, "../connectors/examples/file-tier.ts");
  const options = JSON.stringify({ ...EAGER, files: { folder: join(folder, "pages") } });
  await using server = await startServer([
    ...SMALL,
    `--kv-connector=${tier}`,
    `--kv-connector-options=${options}`,
  ]);
  const first = await complete(server, "tea");
  for (const other of ["rain", "stone", "bread"]) await complete(server, other);
  const again = await complete(server, "tea");
  expect(again.text).toBe(first.text);
  expect(again.tiers["files"]).toBeGreaterThan(0);
}, 120_000);

test("after a restart a prompt comes from the disk, with the same answer", async () => {
  const disk = ["--kv-disk-path", join(folder, "disk"), "--kv-disk-size=64MiB"];
  let first: Answer;
  {
    await using server = await startServer([...SMALL, ...disk]);
    first = await complete(server, "tea");
    expect(first.tiers["disk"] ?? 0).toBe(0);
    await stored(server, 10);
  }
  await using server = await startServer([...SMALL, ...disk]);
  const again = await complete(server, "tea");
  expect(again.text).toBe(first.text);
  expect(again.tiers["disk"]).toBeGreaterThan(100);
}, 120_000);

test("a disk that is written back has at its end what was left in host pages", async () => {
  const options = JSON.stringify({ ...EAGER, disk: { writes: "back" } });
  const flags = [
    ...SMALL,
    "--kv-disk-path",
    join(folder, "back"),
    `--kv-connector-options=${options}`,
  ];
  let first: Answer;
  {
    await using server = await startServer(flags);
    first = await complete(server, "tea");
    await ended(server);
  }
  await using server = await startServer(flags);
  const again = await complete(server, "tea");
  expect(again.text).toBe(first.text);
  expect(again.tiers["disk"]).toBeGreaterThan(100);
}, 120_000);

test("a server that is stopped while it computes, stores and writes ends in order, and what its disk has comes back right", async () => {
  const flags = [
    ...["--num-gpu-blocks-override=96", "--max-model-len=512", "--shutdown-timeout=0"],
    ...["--kv-connector=cpu-offload", "--kv-offload-size=12MiB"],
    ...["--kv-disk-path", join(folder, "busy"), "--kv-disk-size=64MiB"],
    `--kv-connector-options=${JSON.stringify(EAGER)}`,
  ];
  let first: Answer;
  {
    await using server = await startServer(flags);
    first = await complete(server, "tea");
    const more = { max_tokens: 250, temperature: 0, ignore_eos: true, stream: true };
    const streams = ["rain", "stone", "bread", "salt"].map(async (about) => {
      const prompt = `${about} `.repeat(200);
      const stream = events(await post(server, "/v1/completions", { ...more, prompt }));
      await stream.next();
    });
    await Promise.all(streams);
    await stored(server, 14);
    await ended(server);
  }
  await using server = await startServer(flags);
  const again = await complete(server, "tea");
  expect(again.text).toBe(first.text);
  await stored(server, 14);
}, 120_000);

test("a connector that keeps files brings back after a restart what it wrote, and nothing that was changed since", async () => {
  const connector = join(import.meta.dir, "../connectors/examples/file-pages.ts");
  const file = join(folder, "kept");
  const flags = [
    "--kv-offload-size=16MiB",
    `--kv-connector=${connector}`,
    `--kv-connector-options=${JSON.stringify({ file })}`,
  ];
  /** `read`: pages that the run before left. `written`: the run ends when so many were written. */
  const run = async (read: number, written: number): Promise<Answer> => {
    await using server = await startServer(flags);
    // It reads beside steps.
    do await complete(server, "rain");
    while ((await counted(server, READ)) < read);
    const answer = await complete(server, "tea");
    await stored(server, written, WRITTEN);
    await ended(server);
    return answer;
  };
  const first = await run(0, 20);
  expect(first.tiers["file"] ?? 0).toBe(0);
  const again = await run(20, 0);
  expect(again.text).toBe(first.text);
  expect(again.tiers["file"]).toBeGreaterThan(100);
  const bytes = new Uint8Array(await Bun.file(file).arrayBuffer());
  for (let at = 0; at < bytes.length; at += 1000) bytes[at]! ^= 1;
  await Bun.write(file, bytes);
  const changed = await run(20, 0);
  expect(changed.text).toBe(first.text);
  expect(changed.tiers["file"] ?? 0).toBe(0);
}, 120_000);
