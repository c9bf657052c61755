import { describe, expect, test } from "bun:test";
import { defaultModelPath } from "../support/default-model.ts";
import { connectorSource, writeSource } from "../support/connector-files.ts";
import { events, metric, post, runCli, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();

/** A server whose engine computes nothing, with these connectors. */
function serve(...connectors: string[]): Promise<TestServer> {
  const named = connectors.flatMap((connector) => ["--kv-connector", connector]);
  const engine = ["--served-model-name", "m", "--backend", "null", "--kv-offload-size", "1MiB"];
  return startServer([...engine, "--kv-connector-hang-timeout", "0.5", ...named]);
}

let nextFile = 0;
function fileOf(body: string, top = ""): Promise<string> {
  return writeSource(folder, `connector-${nextFile++}.ts`, connectorSource("mine", body, top));
}

/** A prompt of this many tokens. */
function promptOf(length: number): object {
  return { model: "m", prompt: Array.from({ length }, () => 7), max_tokens: 80, ignore_eos: true };
}

async function textOf(server: TestServer, length: number): Promise<unknown> {
  const response = await post(server, "/v1/completions", promptOf(length));
  return [response.status, await response.json()];
}

describe("a connector that does not return", () => {
  test("has every request answered with an error that names it, and ends the process with code 3", async () => {
    const path = await fileOf(
      "onNewRequest(request) { if (request.numPromptTokens === 3) for (;;) {} }",
    );
    await using server = await serve("null", path);
    const stream = events(
      await post(server, "/v1/completions", { ...promptOf(2), stream: true, max_tokens: 98 }),
    );
    const answers = [3, 4].map((length) => post(server, "/v1/completions", promptOf(length)));
    const says = `the connector ${path} has not returned from onNewRequest for 0.5 s`;
    for (const response of await Promise.all(answers)) {
      expect(response.status).toBe(500);
      expect(JSON.stringify(await response.json())).toContain("has not returned from onNewRequest");
    }
    // A stream that has not ended by then has the error for its last event.
    for await (const event of stream) {
      if ("error" in event) expect(JSON.stringify(event)).toContain("onNewRequest");
    }
    expect(await server.exited).toBe(3);
    expect(server.stderr()).toContain(says);
    expect(server.stderr()).toContain("--kv-connector-hang-timeout");
  }, 60_000);

  test("outside its hooks has every request answered, and ends the process with code 3", async () => {
    const path = await fileOf("onNewRequest() { setTimeout(() => { for (;;) {} }, 0); }");
    await using server = await serve(path);
    const answers = [3, 4].map((length) => post(server, "/v1/completions", promptOf(length)));
    for (const response of await Promise.all(answers)) {
      expect(response.status).toBe(500);
      expect(JSON.stringify(await response.json())).toContain("while no hook ran");
    }
    expect(await server.exited).toBe(3);
    expect(server.stderr()).toContain(`code that ${path} left behind`);
  }, 60_000);

  test.each([
    ["import", "for (;;) {}", ""],
    ["constructor", "", "constructor() { super(); for (;;) {} }"],
  ])(
    "in its %s, keeps kvengine serve from starting and ends it with code 3",
    async (hook, top, body) => {
      const path = await fileOf(body, top);
      const flags = ["--kv-connector", path, "--kv-connector-hang-timeout", "0.5"];
      const result = await runCli(["serve", defaultModelPath(), "--port", "0", ...flags]);
      expect(result.stderr).toContain(`the connector ${path} has not returned from ${hook}`);
      expect([result.code, result.stdout]).toEqual([3, ""]);
    },
    60_000,
  );
});

describe("a connector that throws", () => {
  test.each([
    ["a timer", "setTimeout(() => { throw new Error('stray'); }, 0);"],
    ["a promise that nothing waits for", "void Promise.reject(new Error('stray'));"],
    ["a promise that is rejected by no error", "void Promise.reject('stray');"],
    ["a neighbour's timer", "later();"],
  ])(
    "in %s is disabled, and the server goes on",
    async (_what, statement) => {
      const later = `export const later = (): void => void setTimeout(() => { throw new Error("stray"); }, 0);`;
      await writeSource(folder, "later.ts", later);
      const top = `import { later } from "./later.ts"; void later;`;
      await using server = await serve(await fileOf(`onNewRequest() { ${statement} }`, top));
      expect(await textOf(server, 3)).toEqual([200, expect.anything()]);
      await server.saysOnStderr("connector mine is disabled: its code threw outside its hooks");
      expect(server.stderr()).toContain("stray");
      expect(await textOf(server, 3)).toEqual([200, expect.anything()]);
      expect(await metric(server, "kvengine:connector_disabled")).toBe(1);
    },
    60_000,
  );
});

describe("kvengine serve", () => {
  test("refuses what is wrong with a connector before it serves, with code 2", async () => {
    const version = connectorSource("mine").replace("apiVersion = 1", "apiVersion = 9");
    const cases: readonly (readonly [flags: readonly string[], says: string])[] = [
      [["--kv-connector", "nul"], "there is no connector `nul`"],
      [["--kv-connector", "./nowhere.ts"], "./nowhere.ts is no file"],
      [["--kv-connector", "null", "--kv-connector-options", "{"], "is not JSON"],
      [["--kv-connector", "null", "--kv-connector-options", '{"a": 1}'], "there is no option `a`"],
      [["--kv-connector", await writeSource(folder, "v9.ts", version)], "for version 9"],
      [["--kv-connector", await fileOf("", "throw new Error('not today');")], "not today"],
    ];
    for (const [flags, says] of cases) {
      const result = await runCli(["serve", defaultModelPath(), "--port", "0", ...flags]);
      expect(result.stderr).toContain(says);
      expect([result.code, result.stdout]).toEqual([2, ""]);
    }
  }, 120_000);

  test("refuses a connector that is not there before it looks for the model", async () => {
    const result = await runCli(["serve", "./no-model.gguf", "--kv-connector", "nul"]);
    expect(result.stderr).toContain("there is no connector `nul`");
  });

  test("takes connectors from a variable and from a config file", async () => {
    const env = { ...process.env, KVENGINE_KV_CONNECTOR: "null,nul" } as Record<string, string>;
    const config = await writeSource(folder, "k.toml", 'kv-connector = ["null", "nul"]\n');
    for (const result of [
      await runCli(["serve", defaultModelPath()], { env }),
      await runCli(["serve", defaultModelPath(), "--config", config]),
    ])
      expect([result.code, result.stderr]).toEqual([2, expect.stringContaining("`nul`")]);
  });
});
