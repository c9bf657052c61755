/** The shape of the tree: who may import whom, how long a file may be, that nothing public is undocumented. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "..");

// To read the whole tree takes what the disk takes.
setDefaultTimeout(60_000);

async function filesOf(pattern: string): Promise<{ path: string; text: string }[]> {
  const paths = [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })].filter(
    (path) =>
      !/(^|\/)(node_modules|target|dist)\//.test(path) &&
      !path.startsWith("kernels/binding/index."),
  );
  return Promise.all(
    paths.sort().map(async (path) => ({ path, text: await Bun.file(join(ROOT, path)).text() })),
  );
}

/** Paths from the root of what a file imports from this repository; type-only imports count. */
function importsOf(path: string, text: string): string[] {
  const found = [...text.matchAll(/(?:\bfrom|\bimport|\brequire\(|\bimport\()\s*"(\.[^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  return found.map((specifier) => relative(ROOT, join(ROOT, dirname(path), specifier)));
}

/**
 * Room → what its files may import beside files of the same room. The first room whose prefix fits a file is its room.
 */
const ROOMS: readonly (readonly [room: string, allowed: readonly string[]])[] = [
  ["cli/", ["engine/", "connectors/", "package.json", "kernels/binding/"]],
  ["engine/errors.ts", []],
  ["engine/option.ts", []],
  ["engine/request.ts", []],
  ["engine/nearest.ts", []],
  ["engine/integer-list.ts", []],
  ["engine/options/", []],
  ["engine/config.ts", ["engine/option.ts", "engine/options/"]],
  [
    "engine/config-values.ts",
    [
      "engine/config.ts",
      "engine/option.ts",
      "engine/integer-list.ts",
      "engine/nearest.ts",
      "engine/errors.ts",
    ],
  ],
  [
    "engine/request-limits.ts",
    ["engine/request.ts", "engine/cache/block-group.ts", "engine/errors.ts"],
  ],
  ["engine/token-histogram.ts", []],
  ["engine/connector-metrics.ts", ["engine/request.ts"]],
  ["engine/cache-metrics.ts", ["engine/request.ts"]],
  [
    "engine/metrics.ts",
    [
      "engine/request.ts",
      "engine/errors.ts",
      "engine/token-histogram.ts",
      "engine/connector-metrics.ts",
      "engine/cache-metrics.ts",
    ],
  ],
  ["engine/cache/", ["engine/request.ts", "engine/errors.ts", "connectors/"]],
  [
    "engine/scheduler/",
    [
      "engine/request.ts",
      "engine/request-limits.ts",
      "engine/config.ts",
      "engine/cache/",
      "engine/errors.ts",
    ],
  ],
  ["engine/explain/facts.ts", ["engine/request.ts"]],
  [
    "engine/explain/",
    ["engine/request.ts", "engine/errors.ts", "engine/cache/", "engine/scheduler/", "connectors/"],
  ],
  [
    "engine/connectors/trial/",
    [
      "engine/request.ts",
      "engine/request-limits.ts",
      "engine/cache/",
      "engine/connectors/",
      "engine/runner/",
      "engine/scheduler/",
      "connectors/",
    ],
  ],
  [
    "engine/connectors/",
    [
      "engine/request.ts",
      "engine/config.ts",
      "engine/errors.ts",
      "engine/nearest.ts",
      "engine/cache/",
      "engine/scheduler/",
      "connectors/",
    ],
  ],
  ["engine/models/", ["engine/errors.ts", "engine/runner/native.ts", "kernels/binding/"]],
  ["engine/hub/", ["engine/errors.ts"]],
  ["engine/tokenizer/", ["engine/errors.ts", "engine/runner/native.ts"]],
  [
    "engine/runner/",
    [
      "engine/request.ts",
      "engine/request-limits.ts",
      "engine/config.ts",
      "engine/errors.ts",
      "engine/models/",
      "engine/cache/block-group.ts",
      "engine/cache/block-key.ts",
      "engine/cache/disk-store.ts",
      "engine/cache/page-transfers.ts",
      "connectors/block-pool-view.ts",
      "engine/scheduler/batch.ts",
      "engine/scheduler/sequence.ts",
      "kernels/binding/",
    ],
  ],
  [
    "engine/server/",
    [
      "engine/engine-client.ts",
      "engine/explain/facts.ts",
      "engine/connectors/pin-query.ts",
      "engine/connectors/sessions/session-query.ts",
      "engine/tokenizer/",
      "engine/request.ts",
      "engine/request-limits.ts",
      "engine/config.ts",
      "engine/epoch.ts",
      "engine/errors.ts",
      "engine/metrics.ts",
      "engine/nearest.ts",
    ],
  ],
  // The engine proper sees all its parts and no HTTP.
  ["engine/", ["engine/", "!engine/server/"]],
  ["connectors/", []],
  ["kernels/", []],
];

function mayImport(room: string, allowed: readonly string[], target: string): boolean {
  const fits = (rule: string): boolean =>
    rule.endsWith("/") ? target.startsWith(rule) : target === rule;
  if (allowed.some((rule) => rule.startsWith("!") && fits(rule.slice(1)))) return false;
  return fits(room) || allowed.some(fits);
}

describe("imports", () => {
  test("go one way", async () => {
    const wrong: string[] = [];
    for (const { path, text } of await filesOf("{cli,engine,connectors,kernels}/**/*.{ts,mjs}")) {
      const [room, allowed] = ROOMS.find(([prefix]) => path.startsWith(prefix)) ?? ["", []];
      for (const target of importsOf(path, text)) {
        if (!mayImport(room, allowed, target)) wrong.push(`${path} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("of the native module are in engine/runner only, types aside", async () => {
    const wrong: string[] = [];
    for (const { path, text } of await filesOf("{cli,engine,connectors}/**/*.ts")) {
      if (path.startsWith("engine/runner/")) continue;
      for (const line of text.split("\n")) {
        if (/from "[^"]*kernels\/binding/.test(line) && !/^\s*(import|export) type\b/.test(line))
          wrong.push(`${path}: ${line}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("of the OpenTelemetry SDK are in one file, which is loaded where traces are wanted", async () => {
    const files = await filesOf("{cli,engine,connectors}/**/*.ts");
    const having = (text: RegExp): string[] =>
      files.filter((file) => text.test(file.text)).map(({ path }) => path);
    expect(having(/from "@opentelemetry/)).toEqual(["engine/server/tracing/otlp.ts"]);
    expect(having(/^import (?!type).*from ".*tracing\/otlp\.ts"/m)).toEqual([]);
    expect(having(/import\(".*tracing\/otlp\.ts"\)/)).toEqual(["cli/tracing.ts"]);
  });

  test("of tests come from tests only", async () => {
    const wrong: string[] = [];
    for (const { path, text } of await filesOf("{cli,engine,connectors,kernels}/**/*.ts")) {
      if (importsOf(path, text).some((target) => target.startsWith("tests/"))) wrong.push(path);
    }
    expect(wrong).toEqual([]);
  });
});

describe("files", () => {
  test("are small: 400 lines of TypeScript, 500 of Rust without its tests", async () => {
    const long: string[] = [];
    for (const { path, text } of await filesOf(
      "{cli,engine,connectors,kernels,tests}/**/*.{ts,mjs,rs}",
    )) {
      const rust = path.endsWith(".rs");
      if (rust && /(^|\/)tests?(\.rs|\/)/.test(path)) continue;
      const counted = rust
        ? (text.split(/^#\[cfg\(test\)\]\s*\n(?:#\[.*\n)*mod \w+ \{/m)[0] ?? "")
        : text;
      const lines = counted.split("\n").length - 1;
      if (lines > (rust ? 500 : 400)) long.push(`${path}: ${lines}`);
    }
    expect(long).toEqual([]);
  });

  test("have names in the machine's form: kebab-case TypeScript, snake_case Rust", async () => {
    const wrong = (await filesOf("{cli,engine,connectors,kernels,tests}/**/*.{ts,mjs,rs}"))
      .map(({ path }) => path)
      .filter((path) => {
        const name = path.slice(path.lastIndexOf("/") + 1);
        return path.endsWith(".rs")
          ? !/^[a-z0-9_]+\.rs$/.test(name)
          : !/^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d)?\.(ts|mjs)$/.test(name);
      });
    expect(wrong).toEqual([]);
  });

  test("hold no path of one person's machine", async () => {
    const wrong = (await filesOf("{cli,engine,connectors,kernels,tests}/**/*.{ts,mjs,rs,toml}"))
      .filter(
        ({ path, text }) =>
          path !== "tests/architecture.test.ts" &&
          /["'`](\/home\/|\/root\/|\/Users\/|\/work\/)/.test(text),
      )
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });

  test("lie in five folders: others in the root, as servers and benches make them, hold none of ours", () => {
    const folders = readdirSync(ROOT, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
      .map((entry) => entry.name)
      .filter((name) => !["cli", "connectors", "engine", "kernels", "tests"].includes(name))
      .filter((name) => !["node_modules", "dist", "shared", "target"].includes(name));
    const source = new Bun.Glob("**/*.{ts,mjs,rs,cu}");
    expect(
      folders.filter((name) => !source.scanSync({ cwd: join(ROOT, name) }).next().done),
    ).toEqual([]);
  });
});

describe("ops", () => {
  test("have a folder, their own or that of the op they end in", async () => {
    const text = await Bun.file(join(ROOT, "kernels/core/src/op.rs")).text();
    const body = /pub enum Op \{([\s\S]*?)\n\}/.exec(text)?.[1] ?? "";
    const variants = [...body.matchAll(/^ {4}([A-Z]\w*) \{/gm)].map((match) => match[1] ?? "");
    expect(variants.length).toBeGreaterThan(3);
    const hasFolder = (name: string): boolean =>
      existsSync(join(ROOT, "kernels/core/src/ops", name, "mod.rs"));
    const missing = variants.filter((variant) => {
      const words = variant
        .replace(/(?<!^)([A-Z])/g, "_$1")
        .toLowerCase()
        .split("_");
      // A fused op lives with the op that it ends in: AddRmsNorm in rms_norm.
      return !words.some((_, i) => hasFolder(words.slice(i).join("_")));
    });
    expect(missing).toEqual([]);
  });
});
