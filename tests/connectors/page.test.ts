/** `connectors/README.md` says what is so: its example is the one that the suite tries, and no hook, code or fault is left out. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { KvTier } from "../../connectors/connector.ts";
import { TIER_OPTIONS } from "../../connectors/tier-options.ts";
import { FAULT_KINDS } from "../../engine/connectors/connector-faults.ts";
import { HOOKS } from "../../engine/connectors/hooks.ts";

const PAGE = await Bun.file(join(import.meta.dir, "../../connectors/README.md")).text();

/** First cells of the table whose head begins so. */
function rowsOf(head: string): string[] {
  const [, table = ""] = PAGE.split(`| ${head} |`);
  const [rows = ""] = table.split("\n\n");
  return Array.from(rows.matchAll(/^\| `(\w+)/gm), ([, name]) => name ?? "");
}

test("the first connector is the example that passes every rule", async () => {
  const [, example] = /^```ts\n(.*?)^```$/ms.exec(PAGE) ?? [];
  const file = await Bun.file(join(import.meta.dir, "examples/block-oriented.ts")).text();
  expect(example).toBe(file.replace("../../../connectors/connector.ts", "kvengine/connector"));
});

test("the first tier is the example that passes every rule", async () => {
  const [, example] = PAGE.split(/^```ts\n/m).filter((part) => part.includes("export default"));
  const file = await Bun.file(join(import.meta.dir, "examples/file-tier.ts")).text();
  expect(example?.split(/^```$/m)[0]).toBe(
    file.replace("../../../connectors/connector.ts", "kvengine/connector"),
  );
});

test("each method and each option of a tier has its place", () => {
  const [, section = ""] = /^## A tier$(.*?)^## /ms.exec(PAGE) ?? [];
  const methods = Object.getOwnPropertyNames(KvTier.prototype).filter((n) => n !== "constructor");
  const said = [...methods, "has(", "store(", "load(", "remove(", ...Object.keys(TIER_OPTIONS)];
  expect(said.filter((name) => !section.includes(`\`${name}`))).toEqual([]);
});

test("each hook has its row", () => {
  const others = new Set(["import", "constructor"]);
  const hooks = HOOKS.filter((hook) => !others.has(hook));
  expect(rowsOf("hook").sort()).toEqual([...hooks, "getNumNewMatchedTokens"].sort());
});

test("each kind of fault has its row", () => {
  expect(rowsOf("kind").sort()).toEqual([...FAULT_KINDS].sort());
});
