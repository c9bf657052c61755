import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { type Progress, resolveModel } from "../../../engine/hub/resolve.ts";
import { FakeHub, type FakeHubOptions, sha256 } from "../../support/fake-hub.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const REPO = "some-org/Tiny-GGUF";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const MODEL = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7919) >>> 3);
const FILES = {
  "README.md": new Uint8Array(3),
  "tiny-Q4_K_M.gguf": MODEL,
  "sub/tiny-Q8_0.gguf": MODEL.slice(0, 1000),
};

const root = temporaryFolder();
const cache = join(root, "hub");
const repoFolder = join(cache, "models--some-org--Tiny-GGUF");
const blob = join(repoFolder, "blobs", sha256(MODEL));

/** By the number of bytes that the client has. */
const arrivals = new Map<number, PromiseWithResolvers<void>>();
function arrival(upTo: number): PromiseWithResolvers<void> {
  const found = arrivals.get(upTo) ?? Promise.withResolvers<void>();
  arrivals.set(upTo, found);
  return found;
}

let hub: FakeHub;
async function start(options: Partial<FakeHubOptions> = {}): Promise<void> {
  await hub?.[Symbol.asyncDispose]();
  hub = await FakeHub.start({
    repo: REPO,
    commit: COMMIT,
    files: FILES,
    received: (upTo) => arrival(upTo).promise,
    ...options,
  });
}
beforeEach(async () => await start());
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(cache, { recursive: true, force: true });
  arrivals.clear();
});

async function get(
  spec = `hf:${REPO}`,
  env: Readonly<Record<string, string>> = {},
  seen: Progress[] = [],
): Promise<string> {
  return await resolveModel(spec, {
    env: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HOME: root, ...env },
    pauseMs: 0,
    onProgress: (progress) => {
      seen.push(progress);
      arrival(progress.done).resolve();
    },
  });
}

const downloads = (): typeof hub.requests => hub.requests.filter(({ storage }) => storage);

describe("a model of the Hub", () => {
  test("lands in the layout of the Hugging Face cache, with progress", async () => {
    const seen: Progress[] = [];
    const path = await get(`hf:${REPO}`, {}, seen);
    expect(path).toBe(join(repoFolder, "snapshots", COMMIT, "tiny-Q4_K_M.gguf"));
    expect(new Uint8Array(readFileSync(path))).toEqual(MODEL);
    expect(readlinkSync(path)).toBe(join("..", "..", "blobs", sha256(MODEL)));
    expect(readFileSync(join(repoFolder, "refs", "main"), "utf8")).toBe(COMMIT);
    expect(readdirSync(join(repoFolder, "blobs"))).toEqual([sha256(MODEL)]);
    expect(seen.at(-1)).toEqual({
      label: "tiny-Q4_K_M.gguf",
      done: MODEL.length,
      total: MODEL.length,
    });
  });

  test("is chosen by quantisation or by path", async () => {
    expect(await get(`hf:${REPO}:q8_0`)).toEndWith(
      join("snapshots", COMMIT, "sub", "tiny-Q8_0.gguf"),
    );
    expect(await get(`hf:${REPO}/sub/tiny-Q8_0.gguf`)).toEndWith(join("sub", "tiny-Q8_0.gguf"));
    expect(downloads()).toHaveLength(1);
  });

  test("that is in the cache is used without a request", async () => {
    const path = await get();
    const requests = hub.requests.length;
    expect(await get()).toBe(path);
    expect(await get(`hf:${REPO}:Q4_K_M`, { HF_HUB_OFFLINE: "1" })).toBe(path);
    expect(hub.requests).toHaveLength(requests);
  });

  test("that another tool put into the cache is used in place", async () => {
    const snapshot = join(repoFolder, "snapshots", COMMIT);
    mkdirSync(join(repoFolder, "blobs"), { recursive: true });
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(join(repoFolder, "refs"));
    writeFileSync(join(repoFolder, "refs", "main"), COMMIT);
    writeFileSync(blob, MODEL);
    symlinkSync(`../../blobs/${sha256(MODEL)}`, join(snapshot, "other-Q8_0.gguf"));
    expect(await get()).toBe(join(snapshot, "other-Q8_0.gguf"));
    expect(hub.requests).toHaveLength(0);
  });

  test("whose bytes are in the cache under another commit is not downloaded again", async () => {
    mkdirSync(join(repoFolder, "blobs"), { recursive: true });
    writeFileSync(blob, MODEL);
    await get();
    expect(downloads()).toHaveLength(0);
  });

  test("that git keeps itself is checked by git's checksum", async () => {
    await start({ small: ["tiny-Q4_K_M.gguf"] });
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    await start({ small: ["sub/tiny-Q8_0.gguf"], body: (bytes) => new Uint8Array(bytes.length) });
    expect((await thrownBy(() => get(`hf:${REPO}:Q8_0`))).message).toContain(
      "the checksum of what came is",
    );
  });

  test("is in the folder that the environment names", async () => {
    const off = { HF_HUB_CACHE: "", HF_HUB_OFFLINE: "on" };
    const where = async (env: Readonly<Record<string, string>>): Promise<string> =>
      (await thrownBy(() => get(undefined, { ...off, ...env }))).message;
    expect(await where({ HF_HUB_CACHE: "/a" })).toContain(" is not in /a, ");
    expect(await where({ HF_HOME: "/b", XDG_CACHE_HOME: "/c" })).toContain(" is not in /b/hub, ");
    expect(await where({ XDG_CACHE_HOME: "/c" })).toContain(" is not in /c/huggingface/hub, ");
    expect(await where({})).toContain(` is not in ${root}/.cache/huggingface/hub, `);
  });
});

describe("a download", () => {
  test("that is cut goes on where it was", async () => {
    await start({
      body: (bytes, from, attempt) =>
        attempt < 3 ? bytes.subarray(from, from + 70_000) : bytes.subarray(from),
    });
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    expect(downloads().map(({ range }) => range)).toEqual([
      null,
      "bytes=70000-",
      "bytes=140000-",
      "bytes=210000-",
    ]);
  });

  test("that brings nothing more is given up, and the next call goes on", async () => {
    await start({ body: (bytes, from) => bytes.subarray(from, 100_000) });
    const error = await thrownBy(() => get());
    expect([error.code, error.hint]).toEqual([
      "download_failed",
      "try again: it goes on from there",
    ]);
    expect(error.message).toContain(`${REPO}/tiny-Q4_K_M.gguf: cut off at byte 100000 of 300000`);
    expect(existsSync(blob)).toBe(false);
    await start();
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    expect(downloads().map(({ range }) => range)).toEqual(["bytes=100000-"]);
  });

  test("goes on with what a process that is gone has left, not with what a living one writes", async () => {
    const host = hostname().replaceAll(/[^A-Za-z0-9]/g, "_");
    const gone = Bun.spawnSync([process.execPath, "-e", "console.log(process.pid)"])
      .stdout.toString()
      .trim();
    mkdirSync(join(repoFolder, "blobs"), { recursive: true });
    writeFileSync(`${blob}.${host}-${process.ppid}.incomplete`, MODEL.subarray(0, 250_000));
    writeFileSync(`${blob}.elsewhere-${gone}.incomplete`, MODEL.subarray(0, 200_000));
    writeFileSync(`${blob}.${host}-${gone}.incomplete`, MODEL.subarray(0, 123_456));
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    expect(downloads().map(({ range }) => range)).toEqual(["bytes=123456-"]);
    expect(readdirSync(join(repoFolder, "blobs")).sort()).toEqual(
      [
        sha256(MODEL),
        `${sha256(MODEL)}.${host}-${process.ppid}.incomplete`,
        `${sha256(MODEL)}.elsewhere-${gone}.incomplete`,
      ].sort(),
    );
  });

  test("goes on where it was after a server that is busy for a while", async () => {
    let busy = 0;
    await start({
      body: (bytes, from) => (from === 0 ? bytes.subarray(0, 100_000) : bytes.subarray(from)),
      intercept: (_, url) => {
        const ask = url.pathname.includes("/resolve/") && arrivals.has(100_000) && busy++ < 3;
        return ask ? new Response("", { status: 503 }) : undefined;
      },
    });
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    expect(downloads().map(({ range }) => range)).toEqual([null, "bytes=100000-"]);
  });

  test("whose beginning is damaged starts again", async () => {
    await start({
      body: (bytes, from) =>
        from === 0
          ? bytes.subarray(0, 100_000).map((byte) => byte ^ 1)
          : bytes.subarray(from, 100_000),
    });
    await thrownBy(() => get());
    await start();
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
    expect(downloads().map(({ range }) => range)).toEqual(["bytes=100000-", null]);
  });

  test("from a server without ranges starts again", async () => {
    await start({
      ignoreRange: true,
      body: (bytes, _, attempt) => (attempt === 0 ? bytes.subarray(0, 1000) : bytes),
    });
    expect(new Uint8Array(readFileSync(await get()))).toEqual(MODEL);
  });

  test("with another checksum is refused and leaves nothing", async () => {
    await start({ body: (bytes) => bytes.map((byte) => byte ^ 1) });
    const error = await thrownBy(() => get());
    expect(error.code).toBe("download_failed");
    expect(error.message).toContain(`it should be ${sha256(MODEL)}`);
    expect(readdirSync(join(repoFolder, "blobs"))).toEqual([]);
  });

  test("asked for twice at once is made once", async () => {
    const [one, two] = await Promise.all([get(), get()]);
    expect(one).toBe(two);
    expect(downloads()).toHaveLength(1);
  });
});

describe("the token", () => {
  test("goes to the Hub and not to the server that has the bytes", async () => {
    await get(undefined, { HF_TOKEN: "hf_secret" });
    expect(
      new Set(
        hub.requests.filter(({ storage }) => !storage).map(({ authorization }) => authorization),
      ),
    ).toEqual(new Set(["Bearer hf_secret"]));
    expect(downloads().map(({ authorization }) => authorization)).toEqual([null]);
  });

  test("is in no error", async () => {
    await start({ intercept: () => new Response("", { status: 403 }) });
    const error = await thrownBy(() => get(undefined, { HF_TOKEN: "hf_secret" }));
    expect(JSON.stringify([error.message, error.hint, error.subject])).not.toContain("hf_secret");
    expect(error.code).toBe("unauthorized");
    expect(error.message).toContain("the token in HF_TOKEN may not read it");
  });
});

describe("an error says what to do next:", () => {
  test.each([
    [401, "unauthorized", "set HF_TOKEN"],
    [404, "model_not_found", "check the spelling"],
    [429, "download_failed", "wait a while"],
    [500, "download_failed", "try again later"],
  ] as const)("status %i", async (status, code, hint) => {
    await start({ intercept: () => new Response("", { status }) });
    const error = await thrownBy(() => get());
    expect([error.code, error.subject]).toEqual([code, REPO]);
    expect(error.message).toContain(`${hub.endpoint} answers ${status}`);
    expect(error.hint).toContain(hint);
  });

  test("the file is gone by the time it is asked for", async () => {
    await start({
      intercept: (_, url) =>
        url.pathname.includes("/resolve/") ? new Response("", { status: 404 }) : undefined,
    });
    expect(await thrownBy(() => get())).toMatchObject({
      code: "model_not_found",
      subject: `${REPO}/tiny-Q4_K_M.gguf`,
    });
  });

  test("no such quantisation", async () => {
    const error = await thrownBy(() => get(`hf:${REPO}:Q2_K`));
    expect(error.message).toBe(
      `${REPO} has no Q2_K file; it has tiny-Q4_K_M.gguf, sub/tiny-Q8_0.gguf`,
    );
    expect(error.hint).toBe(`name one: hf:${REPO}/tiny-Q4_K_M.gguf`);
  });

  test("no such file", async () => {
    expect((await thrownBy(() => get(`hf:${REPO}/none.gguf`))).message).toContain(
      "has no none.gguf file",
    );
  });

  test("no model at all", async () => {
    await start({ files: { "model.safetensors": new Uint8Array(1) } });
    expect(await thrownBy(() => get())).toMatchObject({
      code: "model_not_found",
      message: `${REPO} has no GGUF file`,
    });
  });

  test.each(["<html>", "{}", '{"sha":"x","siblings":[]}', `{"sha":"${COMMIT}"}`, "null"])(
    "an answer that is none: %s",
    async (text) => {
      await start({ intercept: () => new Response(text) });
      const error = await thrownBy(() => get());
      expect([error.code, error.message]).toEqual([
        "download_failed",
        expect.stringContaining("the Hub's list of its files"),
      ]);
    },
  );

  test("redirects in a circle", async () => {
    await start({ intercept: (request) => Response.redirect(request.url, 302) });
    expect((await thrownBy(() => get())).message).toContain("redirects in a circle");
  });

  test("nobody listens", async () => {
    const { endpoint } = hub;
    await hub[Symbol.asyncDispose]();
    const error = await thrownBy(() => get(undefined, { HF_ENDPOINT: endpoint }));
    expect([error.code, error.hint]).toEqual([
      "download_failed",
      "check the network and the proxy; HF_ENDPOINT names another Hub",
    ]);
    expect(error.message).toContain(`${endpoint} cannot be reached`);
  });

  test("offline and not in the cache", async () => {
    const error = await thrownBy(() => get(undefined, { HF_HUB_OFFLINE: "1" }));
    expect([error.code, error.message]).toEqual([
      "model_not_found",
      expect.stringContaining("the network may not be used"),
    ]);
    expect(hub.requests).toHaveLength(0);
  });

  test("an endpoint that is no address", async () => {
    expect(await thrownBy(() => get(undefined, { HF_ENDPOINT: "ftp://x" }))).toMatchObject({
      code: "bad_config",
      subject: "HF_ENDPOINT",
    });
  });
});

test("a repository cannot name files outside of its folder", async () => {
  await start({
    files: { "../../evil.gguf": MODEL, "/etc/evil.gguf": MODEL, "a\\..\\evil.gguf": MODEL },
  });
  expect((await thrownBy(() => get())).message).toBe(`${REPO} has no GGUF file`);
});
