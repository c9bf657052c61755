import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { connectorSource, writeSource } from "../support/connector-files.ts";
import { type Finished, runCli } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const ROOT = join(import.meta.dir, "../..");

describe("kvengine connectors", () => {
  test("lists what is built in, with options", async () => {
    const result = await runCli(["connectors"]);
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toContain("null (version 1 of the interface): no options");
  });

  test("lists it as JSON", async () => {
    const listed = JSON.parse((await runCli(["connectors", "--json"])).stdout) as unknown[];
    expect(listed).toContainEqual({ kind: "connector", name: "null", apiVersion: 1, options: {} });
  });

  test("lists the options of a file", async () => {
    const body = `
  static readonly options = { size: { type: "bytes", default: 1024, min: 1, max: 4096, help: "How large it is" } };`;
    await writeSource(folder, "listed.ts", connectorSource("listed", body));
    const result = await runCli(["connectors", "./listed.ts"], { cwd: folder });
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toContain(
      "listed (version 1 of the interface):\n  size: How large it is [default 1.00 KiB, allowed 1 B to 4.00 KiB]\n",
    );
    expect(result.stdout).not.toContain("null");
  });

  test("names the nearest of its own commands", async () => {
    const result = await runCli(["connectors", "tset", "./mine.ts"]);
    expect([result.code, result.stderr]).toEqual([
      2,
      expect.stringContaining("did you mean `connectors test`?"),
    ]);
  });
});

describe("kvengine connectors test", () => {
  function tryOut(path: string, ...flags: string[]): Promise<Finished> {
    return runCli(["connectors", "test", path, ...flags], { cwd: folder });
  }

  test("knows a tier for one, and tries it alone and below host pages", async () => {
    const path = join(ROOT, "tests/connectors/examples/file-tier.ts");
    const options = JSON.stringify({ folder: join(folder, "pages") });
    const result = await tryOut(path, "--kv-connector-options", options);
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toContain(`files, version 1 of the interface (${path}): a tier\n`);
    expect(result.stdout).toMatch(/loaded [1-9]\d* of [1-9]\d* promised, and kept 0 pages/);
    expect(result.stdout).toMatch(/\n\d+ rules hold, 0 do not\n$/);
  }, 60_000);

  test("says that every rule holds, and exits with 0", async () => {
    await writeSource(folder, "good.ts", connectorSource("good"));
    const result = await tryOut("./good.ts");
    expect([result.code, result.stderr]).toEqual([0, ""]);
    expect(result.stdout).toContain("good, version 1 of the interface (./good.ts)");
    expect(result.stdout).toMatch(/\n\d+ rules hold, 0 do not\n$/);
    expect(result.stdout).toContain(
      "  note  in the trials it stored 0 blocks, loaded 0 of 0 promised",
    );
    expect(result.stdout).toContain("  note  it stored nothing and promised nothing\n");
  });

  test("says what failed and why, as text and as JSON, and exits with 1", async () => {
    const body = 'buildConnectorMeta() { throw new Error("boo"); }';
    await writeSource(folder, "bad.ts", connectorSource("bad", body));
    const result = await tryOut("./bad.ts");
    expect(result.code).toBe(1);
    expect(result.stdout).toContain("FAIL  takes steps that compute nothing");
    expect(result.stdout).toContain("buildConnectorMeta threw Error: boo");
    const { results, trials, notes } = JSON.parse((await tryOut("./bad.ts", "--json")).stdout) as {
      results: { rule: string; failure?: string }[];
      trials: Record<string, number>;
      notes: string[];
    };
    expect(trials).toMatchObject({ stored: 0, promised: 0, loaded: 0, kept: 0 });
    expect(notes).toEqual(["it stored nothing and promised nothing"]);
    const failures = results.flatMap(({ failure }) => failure ?? []);
    expect(failures.length).toBeGreaterThan(1);
    // The rule on the hook itself, and those that serve requests with the connector.
    for (const failure of failures)
      expect(failure).toContain("buildConnectorMeta threw Error: boo");
    expect(failures.length).toBeLessThan(results.length);
  });

  /** It takes no default. */
  async function withOption(): Promise<string> {
    const body = `
  static readonly options = { dir: { type: "text", default: "", help: "Where it keeps its files" } };
  constructor({ dir }: { dir: string }) {
    super();
    if (dir === "") throw new Error("no dir");
  }`;
    await writeSource(folder, "optional.ts", connectorSource("optional", body));
    return "./optional.ts";
  }

  test.each(['{"dir": "x"}', '{"optional": {"dir": "x"}}'])(
    "gives the connector its options: %s",
    async (options) => {
      const result = await tryOut(await withOption(), "--kv-connector-options", options);
      expect([result.code, result.stderr]).toEqual([0, ""]);
    },
  );

  test("tells once that it cannot be constructed, and tries no more", async () => {
    const { code, stdout } = await tryOut(await withOption());
    expect(code).toBe(1);
    expect(stdout.split("its constructor threw Error: no dir").length).toBe(2);
    expect(stdout).toMatch(/\n0 rules hold, 1 do not, \d+ were not tried\n$/);
  });

  test("refuses wrong options with code 2", async () => {
    const wrong = await tryOut(await withOption(), "--kv-connector-options", '{"dri": "x"}');
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining("`dri`")]);
  });

  test("refuses a module that is no connector with code 2", async () => {
    await writeSource(folder, "none.ts", "export const a = 1;");
    const result = await tryOut("./none.ts");
    expect([result.code, result.stderr]).toEqual([
      2,
      expect.stringContaining("the connector ./none.ts has no default export"),
    ]);
  });
});

describe("kvengine connectors types", () => {
  const MINE = `import {
  type ConnectorOptions,
  type GpuBlockPoolView,
  KvConnector,
  RefusedError,
  type SchedulerContext,
} from "kvengine/connector";

export default class Mine extends KvConnector {
  static readonly connectorName = "mine";
  static readonly apiVersion = 1;
  static readonly options: ConnectorOptions = {};
  pool: GpuBlockPoolView | undefined;

  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.pool = view;
  }

  override onSchedulerReady({ log, pages }: SchedulerContext): void {
    log.info(String(pages.numPages));
    const lease = this.pool?.lease([1], { ttlMs: 5 });
    lease?.[Symbol.dispose]();
    if (new RefusedError("budget", "no").code === "stale") log.warn("never");
  }
}
`;

  async function check(place: string, ...settings: string[]): Promise<string> {
    const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
    const flags = ["--ignoreConfig", "--noEmit", "--strict", "--types", "", ...settings];
    const compiler = Bun.spawn([process.execPath, tsc, "mine.ts", ...flags], {
      cwd: place,
      stdout: "pipe",
    });
    const [said, code] = await Promise.all([compiler.stdout.text(), compiler.exited]);
    return code === 0 ? "" : said;
  }

  test("make an outside file known to the compiler, whatever its settings", async () => {
    const place = join(folder, "typed");
    await writeSource(place, "mine.ts", MINE);
    expect(await check(place, "--module", "nodenext")).toContain("kvengine/connector");
    const result = await runCli(["connectors", "types", place]);
    expect([result.code, result.stdout]).toEqual([0, `${join(place, "node_modules/kvengine")}\n`]);
    expect(readdirSync(join(place, "node_modules/kvengine")).sort()).toEqual([
      "block-pool-view.d.ts",
      "connector.d.ts",
      "errors.d.ts",
      "host-content.d.ts",
      "options.d.ts",
      "package.json",
      "rule-result.d.ts",
      "test-tier.d.ts",
      "tier-options.d.ts",
      "tier-port.d.ts",
      "tier.d.ts",
    ]);
    expect(await check(place, "--module", "nodenext")).toBe("");
    expect(await check(place, "--module", "preserve", "--target", "esnext")).toBe("");
    expect(
      await check(place, "--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022"),
    ).toBe("");
  }, 60_000);

  test("let the compiler find what is wrong", async () => {
    const place = join(folder, "wrong");
    await writeSource(
      place,
      "mine.ts",
      MINE.replace("log.info(String(pages.numPages))", "log.info(pages.numPages)"),
    );
    await runCli(["connectors", "types"], { cwd: mkdir(place) });
    expect(await check(place, "--module", "nodenext")).toContain(
      "not assignable to parameter of type 'string'",
    );
  }, 60_000);

  test("are written anew over older ones", async () => {
    const place = join(folder, "again");
    const old = await writeSource(place, "node_modules/kvengine/connector.d.ts", "export {};");
    await runCli(["connectors", "types", place]);
    expect(await Bun.file(old).text()).toContain("class KvConnector");
  });

  test("are refused for a folder that is not there", async () => {
    const result = await runCli(["connectors", "types", join(folder, "nowhere")]);
    expect([result.code, result.stderr]).toEqual([2, expect.stringContaining("nowhere")]);
  });

  function mkdir(path: string): string {
    mkdirSync(path, { recursive: true });
    return path;
  }
});
