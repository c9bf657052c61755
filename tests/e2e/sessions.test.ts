/** A conversation goes on in another process: its KV is carried there in a file, or stays on a disk. */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import {
  type SessionJson,
  sessionListSchema,
  sessionSchema,
} from "../../engine/server/sessions/session-json.ts";
import { defaultModelPath } from "../support/default-model.ts";
import {
  type Finished,
  metric,
  post,
  runCli,
  startServer,
  type TestServer,
} from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
/** Where servers put their temporary files. */
const temporary = join(folder, "tmp");
mkdirSync(temporary);
const env = Object.fromEntries(
  Object.entries({ ...process.env, TMPDIR: temporary }).flatMap(([name, value]) =>
    value === undefined || name.startsWith("KVENGINE_") ? [] : [[name, value]],
  ),
);

/** A device of 40 blocks of 16 tokens, and a host with room for a few conversations. */
const FLAGS = [
  "--num-gpu-blocks-override=40",
  "--max-model-len=600",
  "--threads=1",
  "--kv-connector=cpu-offload",
];
const HOST = "--kv-offload-size=60MiB";
const OPENING = "A long journey begins with many small words. ".repeat(30);

interface Answer {
  readonly tokens: readonly number[];
  readonly prompt: readonly number[];
  /** Prompt tokens by where they came from. */
  readonly tiers: Readonly<Record<string, number>>;
}

async function complete(
  server: TestServer,
  prompt: string | readonly number[],
  more: object = {},
): Promise<Answer> {
  const response = await post(server, "/v1/completions", {
    ...{ prompt, max_tokens: 12, temperature: 0, ignore_eos: true, return_token_ids: true },
    ...more,
  });
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    readonly choices: readonly {
      readonly token_ids: readonly number[];
      readonly prompt_token_ids: readonly number[];
    }[];
    readonly usage: {
      readonly prompt_tokens_details?: {
        readonly cached_tokens_details?: Readonly<Record<string, number>>;
      };
    };
  };
  const tiers = usage.prompt_tokens_details?.cached_tokens_details ?? {};
  return { tokens: choices[0]!.token_ids, prompt: choices[0]!.prompt_token_ids, tiers };
}

const session = (server: TestServer, ...args: readonly string[]): Promise<Finished> =>
  runCli(["session", ...args, "--url", server.url]);

/** The only session of a server. */
async function listed(server: TestServer): Promise<SessionJson> {
  const { stdout } = await session(server, "ls", "--json");
  const [one, ...others] = sessionListSchema.parse(JSON.parse(stdout)).data;
  expect(others).toEqual([]);
  return one!;
}

/** What comes after the first answer. */
const nextOf = ({ prompt, tokens }: Answer): number[] => [
  ...prompt,
  ...tokens,
  ...prompt.slice(0, 20),
];

test("a session that was exported goes on in another process: all full blocks are found, and the answer is the same", async () => {
  const file = join(folder, "trip.kv");
  let first: Answer;
  let second: Answer;
  {
    await using server = await startServer([...FLAGS, HOST], { env });
    first = await complete(server, OPENING, { session_id: "trip" });
    const listing = await listed(server);
    // Of the last token there is no KV.
    const numTokens = first.prompt.length + first.tokens.length - 1;
    const tokens = numTokens - (numTokens % 16);
    expect(listing).toMatchObject({ session: "trip", state: "live", tokens, pages: tokens / 16 });
    const sent = await session(server, "export", "trip", file);
    expect([sent.code, sent.stdout]).toEqual([0, expect.stringContaining(`wrote ${file}`)]);
    second = await complete(server, nextOf(first));
    const nobody = await session(server, "export", "nobody", join(folder, "none"));
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("not remembered")]);
    // The server is killed while it sends one.
    expect((await post(server, "/kv/sessions/export", { session: "trip" })).status).toBe(200);
  }
  const left = readdirSync(temporary).filter((name) => name.startsWith("kvengine-session"));
  expect(left).toEqual([]);
  await using server = await startServer([...FLAGS, HOST]);
  const got = await session(server, "import", file, "--session-name", "holiday", "--json");
  expect([got.code, got.stderr]).toEqual([0, ""]);
  const imported = sessionSchema.parse(JSON.parse(got.stdout));
  const { pages, tokens } = imported;
  expect(imported).toMatchObject({ session: "holiday", state: "frozen", host_pages: pages });
  const again = await complete(server, nextOf(first));
  expect(again.tokens).toEqual(second.tokens);
  expect(again.tiers["host"]).toBe(tokens);
  const damaged = new Uint8Array(await Bun.file(file).arrayBuffer());
  damaged[damaged.length >> 1]! ^= 1;
  await Bun.write(file, damaged);
  await post(server, "/reset_prefix_cache", {});
  const refused = await session(server, "import", file);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("is damaged")]);
}, 300_000);

test("a session that is frozen lies on the disk, outlives others, is known after a kill, and thaws to the host's memory", async () => {
  const flags = [
    ...FLAGS,
    "--kv-offload-size=20MiB",
    ...["--kv-disk-path", join(folder, "disk"), "--kv-disk-size=32MiB"],
    // However busy the machine is: what comes late is computed.
    "--kv-connector-load-timeout=100",
    `--kv-connector-options=${JSON.stringify({ disk: { timeoutMs: 100_000 } })}`,
  ];
  let first: Answer;
  let pages = 0;
  {
    await using server = await startServer(flags);
    first = await complete(server, OPENING, { session_id: "trip" });
    const frozen = await session(server, "freeze", "trip", "--session-ttl", "600", "--json");
    const facts = sessionSchema.parse(JSON.parse(frozen.stdout));
    ({ pages } = facts);
    expect(facts).toMatchObject({ state: "frozen", disk_pages: pages, kept_pages: pages });
    expect(await metric(server, "kvengine:session_kept_tokens")).toBe(facts.tokens);
    // Others fill the disk several times.
    for (let other = 0; other < 4; other++) await complete(server, `${other} `.repeat(250));
    const kept = await session(server, "ls");
    expect(kept.stdout).toContain(`${pages} on disk, ${pages} kept until 20`);
    const thawed = await session(server, "thaw", "trip", "--json");
    expect(sessionSchema.parse(JSON.parse(thawed.stdout))).toMatchObject({
      state: "live",
      host_pages: pages,
    });
    await session(server, "freeze", "trip");
    server.kill("SIGKILL");
    await server.exited;
  }
  await using server = await startServer(flags);
  // One process has the folder, and what is known of its sessions.
  const second = await runCli(["serve", defaultModelPath(), "--port", "0", ...flags]);
  expect([second.code, second.stderr]).toEqual([
    2,
    expect.stringContaining("is in use by another"),
  ]);
  const after = await listed(server);
  expect(after).toMatchObject({ session: "trip", state: "frozen", survives_restart: true });
  expect(after).toMatchObject({ pages, disk_pages: pages, kept_pages: pages, host_pages: 0 });
  expect(after.found_tokens).toBe(after.tokens);
  const again = await complete(server, nextOf(first));
  expect(again.tiers["disk"]).toBeGreaterThan(200);
  const sent = await session(server, "export", "trip", join(folder, "after.kv"));
  expect([sent.code, sent.stderr]).toEqual([0, ""]);
  const thawed = await session(server, "thaw", "trip", "--json");
  expect(sessionSchema.parse(JSON.parse(thawed.stdout))).toMatchObject({ state: "live", pages });
  await session(server, "freeze", "trip", "--session-ttl", "600");
  expect(await listed(server)).toMatchObject({ state: "frozen", kept_pages: pages });
  await post(server, "/reset_prefix_cache", {});
  const gone = await session(server, "ls");
  expect(gone.stdout).toContain(`trip  gone  ${after.tokens} tokens, 0 of them found`);
}, 300_000);

test("without a connector that keeps pages there are no sessions, and the refusal says what to start", async () => {
  await using server = await startServer(FLAGS.slice(0, 3));
  const refused = await session(server, "ls");
  expect([refused.code, refused.stderr]).toEqual([
    1,
    expect.stringContaining("--kv-connector cpu-offload"),
  ]);
}, 60_000);
