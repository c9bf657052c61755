/** From `--kv-connector` and `--kv-disk-path` to one connector that drives all tiers. */

import { expect, test } from "bun:test";
import Tiered from "../../../connectors/tiered.ts";
import { HookTurn } from "../../../engine/connectors/hook-turn.ts";
import { type LoadedConnector, loadConnectors } from "../../../engine/connectors/load-connector.ts";
import { connectorSource, writeSource } from "../../support/connector-files.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const folder = temporaryFolder();

function load(
  kvConnector: readonly string[],
  options: object = {},
  kvDiskPath = "",
): Promise<readonly LoadedConnector[]> {
  const text = Object.keys(options).length === 0 ? "" : JSON.stringify(options);
  const flags = { kvConnector, kvConnectorOptions: text, kvDiskPath };
  return loadConnectors(flags, folder, new HookTurn());
}

function tierFile(name: string, body = ""): Promise<string> {
  return writeSource(
    folder,
    `${name}.ts`,
    `import { KvTier } from "kvengine/connector";
export default class Outside extends KvTier {
  static readonly tierName = "${name}";
  static readonly apiVersion = 1;
  ${body}
  has(keys) { return keys.map(() => false); }
  store() { return false; }
  load() { return false; }
  remove() {}
}
`,
  );
}

test("all tiers are driven by one connector, in their order, in the place of the first", async () => {
  const other = await writeSource(folder, "other.ts", connectorSource("other"));
  const mine = await tierFile("mine");
  const loaded = await load([other, "memory", "null", mine]);
  expect(loaded.map(({ name, index }) => [name, index])).toEqual([
    ["other", 0],
    ["tiered", 1],
    ["null", 2],
  ]);
  const [, tiered] = loaded;
  expect(tiered?.connector).toBeInstanceOf(Tiered);
  expect(tiered?.tiers).toMatchObject([
    { name: "memory", path: undefined, driving: { writes: "through", inFlight: 8 } },
    { name: "mine", path: mine },
  ]);
});

test("cpu-offload beside tiers drives them, wherever it stands, under its name and with its options", async () => {
  const options = { "cpu-offload": { mode: "lazy" }, memory: { size: "1KiB", writes: "back" } };
  for (const specs of [
    ["cpu-offload", "memory"],
    ["memory", "cpu-offload"],
  ]) {
    const [offload, ...rest] = await load(specs, options);
    expect(rest).toEqual([]);
    expect(offload?.name).toBe("cpu-offload");
    expect(offload?.connector).toBeInstanceOf(Tiered);
    expect(offload?.tiers).toMatchObject([{ name: "memory", driving: { writes: "back" } }]);
  }
});

test("options of the only one named are the tier's; by name they may also be those of what drives it", async () => {
  const [alone] = await load(["memory"], { timeoutMs: 7 });
  expect(alone?.tiers).toMatchObject([{ driving: { timeoutMs: 7 } }]);
  await load(["memory"], { tiered: { mode: "eager" }, memory: { retries: 0 } });
  const wrong = await thrownBy(() => load(["memory"], { tiered: { mode: "often" } }));
  expect(wrong.message).toContain("allowed is auto, eager, lazy");
  const none = await thrownBy(() => load(["memory"], { "cpu-offload": { mode: "eager" } }));
  expect(none.message).toContain("no connector of that name runs");
});

test("a disk stands behind all others, or where it is named, and needs its folder", async () => {
  const namesOf = async (...specs: string[]): Promise<readonly string[]> =>
    (await load(specs, {}, "/d")).flatMap(({ tiers }) => tiers.map(({ name }) => name));
  expect(await namesOf()).toEqual(["disk"]);
  expect(await namesOf("cpu-offload", "memory")).toEqual(["memory", "disk"]);
  expect(await namesOf("disk", "memory")).toEqual(["disk", "memory"]);
  const [, none] = [await load([]), await thrownBy(() => load(["disk"]))];
  expect([none.code, none.message]).toEqual(["bad_config", "the tier disk has no folder"]);
  expect(await load([])).toEqual([]);
});

test("what is wrong with a tier is said before anything is served", async () => {
  const cases: readonly (readonly [name: string, body: string, says: string])[] = [
    ["newer", "static readonly apiVersion = 2;", "version 2 of the tier interface"],
    ["thrower", 'constructor() { super(); throw new Error("no key"); }', "no key"],
    [
      "taker",
      'static readonly options = { writes: { type: "text", default: "", help: "How it writes" } };',
      "its option `writes` is one of every tier",
    ],
  ];
  for (const [name, body, says] of cases) {
    const path = await tierFile(name, body);
    const error = await thrownBy(() => load([path]));
    expect([error.code, error.message]).toEqual(["bad_config", expect.stringContaining(says)]);
  }
});

test("seven tiers may be named, and no eighth; two of one name may not", async () => {
  const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const paths = await Promise.all(names.map((name) => tierFile(name)));
  expect((await load(paths.slice(0, 7)))[0]?.tiers.length).toBe(7);
  const many = await thrownBy(() => load(paths));
  expect(many.message).toBe("8 tiers are named; allowed are 7");
  const twice = await thrownBy(() => load(["memory", "memory"]));
  expect(twice.message).toContain("are both called `memory`");
});
