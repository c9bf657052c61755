import { describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { KvConnector } from "../../../connectors/connector.ts";
import { HookTurn } from "../../../engine/connectors/hook-turn.ts";
import {
  checkConnectorFlags,
  type LoadedConnector,
  loadConnectors,
} from "../../../engine/connectors/load-connector.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import { connectorSource, writeSource } from "../../support/connector-files.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const folder = temporaryFolder();

function load(specs: readonly string[], options = ""): Promise<readonly LoadedConnector[]> {
  const flags = { kvConnector: specs, kvConnectorOptions: options };
  return loadConnectors(flags, folder, new HookTurn());
}

async function refusal(specs: readonly string[], options = ""): Promise<KvEngineError> {
  const error = await thrownBy(() => load(specs, options));
  expect(error.code).toBe("bad_config");
  return error;
}

/** A connector file that shows the options it was given. */
async function withOptions(name: string): Promise<string> {
  const body = `
  static readonly options = {
    size: { type: "bytes", default: 1024, min: 1, max: 1e12, help: "How large it is at most" },
    mode: { type: "choice", default: "lazy", choices: ["lazy", "eager"], help: "When it stores" },
  };
  readonly values: unknown;
  constructor(values: unknown) {
    super();
    this.values = values;
  }`;
  return writeSource(folder, `${name}.ts`, connectorSource(name, body));
}

function valuesOf(loaded: LoadedConnector | undefined): unknown {
  return (loaded?.connector as { readonly values?: unknown } | undefined)?.values;
}

describe("a connector is found", () => {
  test("by its name, where it is built in", async () => {
    const [loaded] = await load(["null"]);
    expect(loaded).toMatchObject({ name: "null", spec: "null", path: undefined });
    expect(loaded?.connector).toBeInstanceOf(KvConnector);
  });

  test("by a path, relative or absolute, with its neighbours and the interface's own base class", async () => {
    await writeSource(folder, "neighbours/name.ts", `export const NAME: string = "kept";`);
    const source = connectorSource(
      "outside",
      "readonly name = NAME;",
      `import { NAME } from "./neighbours/name.ts";`,
    );
    const path = await writeSource(folder, "outside.ts", source);
    for (const spec of ["./outside.ts", "outside.ts", path]) {
      const [loaded] = await load([spec]);
      expect(loaded).toMatchObject({ name: "outside", spec, path });
      expect(loaded?.connector).toBeInstanceOf(KvConnector);
      expect(loaded?.connector).toMatchObject({ name: "kept" });
    }
  });

  test("by the name of an installed package", async () => {
    await writeSource(
      folder,
      "node_modules/kv-far/package.json",
      `{"name":"kv-far","main":"main.ts"}`,
    );
    await writeSource(folder, "node_modules/kv-far/main.ts", connectorSource("far"));
    expect((await load(["kv-far"]))[0]).toMatchObject({ name: "far" });
  });

  test("beside a package of types, which has no code", async () => {
    const types = join("node_modules", "kvengine");
    const manifest = `{"name":"kvengine","exports":{"./connector":{"types":"./connector.d.ts"}}}`;
    await writeSource(folder, join(types, "package.json"), manifest);
    await writeSource(folder, join(types, "connector.d.ts"), "export declare class KvConnector {}");
    await writeSource(folder, "typed.ts", connectorSource("typed"));
    expect((await load(["./typed.ts"]))[0]?.connector).toBeInstanceOf(KvConnector);
  });

  test("in the order of the flags, where there are several", async () => {
    await writeSource(folder, "second.ts", connectorSource("second"));
    const loaded = await load(["./second.ts", "null"]);
    expect(loaded.map(({ name }) => name)).toEqual(["second", "null"]);
  });
});

describe("a module is refused by name and reason:", () => {
  const CASES: readonly (readonly [what: string, source: string, says: string])[] = [
    ["no default export", "export const a = 1;", "has no default export"],
    [
      "a default export that is no class",
      "export default { findBlocks() {} };",
      "its default export is an object",
    ],
    ["a function", "export default () => {};", "its default export is a function"],
    [
      "a class of another base",
      "export default class { static connectorName = 'a'; static apiVersion = 1 }",
      "a class that extends KvConnector",
    ],
    [
      "no name",
      `import { KvConnector } from "kvengine/connector"; export default class extends KvConnector { static apiVersion = 1 }`,
      "no static `connectorName`",
    ],
    [
      "a name that no metric could be labelled with",
      connectorSource("Mine Own"),
      'its connectorName is "Mine Own"',
    ],
    [
      "no version",
      connectorSource("a").replace("static readonly apiVersion = 1;", ""),
      "no static `apiVersion`",
    ],
    [
      "a version that is no whole number",
      connectorSource("a").replace("apiVersion = 1", "apiVersion = 1.5"),
      "its apiVersion is 1.5",
    ],
    [
      "a version that is text",
      connectorSource("a").replace("apiVersion = 1", 'apiVersion = "1"'),
      'its apiVersion is "1"',
    ],
    [
      "a version of another major, naming both",
      connectorSource("a").replace("apiVersion = 1", "apiVersion = 2"),
      "written for version 2 of the connector interface; this kvengine runs version 1",
    ],
    [
      "an older major",
      connectorSource("a").replace("apiVersion = 1", "apiVersion = 0"),
      "written for version 0",
    ],
    [
      "options that are no table",
      connectorSource("a", "static readonly options = [1];"),
      "its options are an array",
    ],
    [
      "an option of no type",
      connectorSource(
        "a",
        `static readonly options = { n: { type: "list", default: 1, help: "h" } };`,
      ),
      'its option `n` has the type "list"',
    ],
    [
      "an option without help",
      connectorSource("a", `static readonly options = { n: { type: "boolean", default: true } };`),
      "its option `n` has no help",
    ],
    [
      "an option without a range",
      connectorSource(
        "a",
        `static readonly options = { n: { type: "integer", default: 1, help: "h" } };`,
      ),
      "its option `n` has no range",
    ],
    [
      "an option without choices",
      connectorSource(
        "a",
        `static readonly options = { n: { type: "choice", default: "a", help: "h" } };`,
      ),
      "its option `n` has no choices",
    ],
    [
      "an option without a default",
      connectorSource("a", `static readonly options = { n: { type: "text", help: "h" } };`),
      "its option `n` has no default",
    ],
    [
      "an option whose default is not allowed",
      connectorSource(
        "a",
        `static readonly options = { n: { type: "integer", default: 9, min: 0, max: 5, help: "h" } };`,
      ),
      "its option `n` has a default that it does not allow",
    ],
    [
      "a name that throws when it is read",
      connectorSource("a")
        .replace('connectorName = "a"', "get connectorName() { throw new Error('no name'); }")
        .replace("static readonly get", "static get"),
      "no name",
    ],
    [
      "a module that throws",
      "throw new Error('not today'); export default 1;",
      "cannot be loaded: Error: not today",
    ],
    [
      "a module that throws no error",
      "throw { toString() { throw 1 } }; export default 1;",
      "cannot be loaded: an object",
    ],
    [
      "a syntax error, with its place",
      "export default class {\n  oops(\n}\n",
      "syntax-error-with-its-place.ts:3:1: ",
    ],
    ["a neighbour that is not there", `import "./nobody.ts"; export default 1;`, "'./nobody.ts'"],
    [
      "a package that is not installed",
      `import "nobody-knows-it"; export default 1;`,
      "'nobody-knows-it'",
    ],
    [
      "an import that the interface does not have",
      `import { Nothing } from "kvengine/connector"; export default Nothing;`,
      "Nothing",
    ],
    [
      "a constructor that throws",
      connectorSource("a", "constructor() { super(); throw new Error('no disk'); }"),
      "cannot be constructed: Error: no disk",
    ],
  ];
  for (const [what, source, says] of CASES) {
    test(what, async () => {
      const name = `./${what.replaceAll(/[^a-z]+/g, "-")}.ts`;
      await writeSource(folder, name, source);
      const { message } = await refusal([name]);
      expect(message).toContain(`the connector ${name}`);
      expect(message).toContain(says);
    });
  }

  test("several syntax errors, each with its place", async () => {
    await writeSource(
      folder,
      "twice.ts",
      'import {A} from "./no-a.ts"; import {B} from "./no-b.ts"; export {A, B};',
    );
    const { message, cause } = await refusal(["./twice.ts"]);
    expect(message).toContain("no-a.ts");
    expect(cause instanceof AggregateError).toBe(false);
  });

  test("a class that lacks something, with what to write and no other hint", async () => {
    const source = connectorSource("a").replace("static readonly apiVersion = 1;", "");
    await writeSource(folder, "no-version.ts", source);
    const { message, hint } = await refusal(["./no-version.ts"]);
    expect(message).toContain("write `static readonly apiVersion = 1;`");
    expect(hint).toBeUndefined();
    await writeSource(folder, "no-class.ts", "export default 5;");
    expect((await refusal(["./no-class.ts"])).hint).toContain("exports a class by default");
  });

  test("a file that is not there, with where it was sought", async () => {
    const { message, hint } = await refusal(["./missing.ts"]);
    expect(message).toContain(join(folder, "missing.ts"));
    expect(hint).toContain(folder);
  });

  test("a folder", async () => {
    mkdirSync(join(folder, "a-folder"));
    expect((await refusal(["./a-folder"])).message).toContain("is no file");
  });

  test("a name that is neither built in nor a package, with the names and the nearest", async () => {
    const error = await refusal(["nul"]);
    expect(error.message).toContain("there is no connector `nul`");
    expect(error.message).toContain("did you mean `null`?");
    expect(error.hint).toContain("built in are cpu-offload, null");
  });

  test("two of the same name, naming both", async () => {
    await writeSource(folder, "twin.ts", connectorSource("twin"));
    await writeSource(folder, "other-twin.ts", connectorSource("twin"));
    const { message } = await refusal(["./twin.ts", "./other-twin.ts"]);
    expect(message).toBe("./twin.ts and ./other-twin.ts are both called `twin`");
    expect((await refusal(["null", "null"])).message).toContain("both called `null`");
  });

  test("more than can be told apart", () => {
    const flags = (count: number) => ({
      kvConnector: Array.from({ length: count }, () => "null"),
      kvConnectorOptions: "",
    });
    expect(() => checkConnectorFlags(flags(256), folder)).not.toThrow();
    expect(() => checkConnectorFlags(flags(257), folder)).toThrow("allowed are 256");
  });
});

describe("options", () => {
  test("have the table's defaults where nothing is given", async () => {
    expect(valuesOf((await load([await withOptions("plain")]))[0])).toEqual({
      size: 1024,
      mode: "lazy",
    });
  });

  test("of the only connector are given as they are, or by its name", async () => {
    const path = await withOptions("single");
    for (const text of ['{"size": "2KiB"}', '{"single": {"size": 2048}}'])
      expect(valuesOf((await load([path], text))[0])).toEqual({ size: 2048, mode: "lazy" });
    expect(valuesOf((await load([path], "{}"))[0])).toEqual({ size: 1024, mode: "lazy" });
  });

  test("of several are given by their names, in any order", async () => {
    const paths = [await withOptions("one"), await withOptions("two")];
    const loaded = await load(paths, '{"two": {"mode": "eager"}, "one": {"size": 5}}');
    expect(loaded.map(valuesOf)).toEqual([
      { size: 5, mode: "lazy" },
      { size: 1024, mode: "eager" },
    ]);
  });

  test("reach no constructor when any is wrong", async () => {
    const path = await writeSource(
      folder,
      "costly.ts",
      connectorSource("costly", "constructor() { super(); throw new Error('constructed'); }"),
    );
    expect((await refusal([path], '{"sise": 1}')).message).toContain("there is no option `sise`");
  });

  const REFUSED: readonly (readonly [what: string, text: string, says: string])[] = [
    ["text that is no JSON", "size=5", "is not JSON"],
    ["JSON that is no object", "[1]", "is JSON, but no object"],
    [
      "an option that does not exist",
      '{"sise": 5}',
      "there is no option `sise`; allowed are size, mode",
    ],
    ["a value out of range", '{"size": 0}', "option `size` is 0"],
    ["a value of another type", '{"mode": true}', "option `mode` is true; allowed is lazy, eager"],
    [
      "a value under the connector's name that is no object",
      '{"refusing": 5}',
      "has 5 under the connector's name `refusing`; allowed is an object of its options",
    ],
    ["options beside names", '{"refusing": {"size": 5}, "mode": "lazy"}', "and `mode` beside them"],
    [
      "the name of a connector that does not run",
      '{"other": {"size": 5}}',
      "has options of `other`",
    ],
  ];
  for (const [what, text, says] of REFUSED) {
    test(`are refused: ${what}`, async () => {
      expect((await refusal([await withOptions("refusing")], text)).message).toContain(says);
    });
  }

  test("are refused with those that there are", async () => {
    const { hint } = await refusal([await withOptions("helping")], '{"sise": 5}');
    expect(hint).toBe(
      "its options are size: How large it is at most [default 1024, allowed 1 to 1000000000000]; mode: When it stores [default lazy, allowed lazy, eager]",
    );
    expect((await refusal(["null"], '{"sise": 5}')).hint).toContain("`kvengine connectors`");
  });

  test("are refused without a connector, and without a name where there are several", async () => {
    expect((await refusal([], '{"size": 5}')).message).toContain("no --kv-connector is");
    const { message, hint } = await refusal(["null", await withOptions("beside")], '{"size": 5}');
    expect(message).toContain("does not say to which of the 2 connectors");
    expect(hint).toContain('{"NAME": {"OPTION": VALUE}}');
  });

  test("are not repeated when they are no JSON, since they may hold a password", async () => {
    const { message, hint } = await refusal(["null"], '{"password": hunter2}');
    expect(`${message} ${hint}`).not.toContain("hunter2");
  });
});
