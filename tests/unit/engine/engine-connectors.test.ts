import { afterEach, describe, expect, test } from "bun:test";
import type { EngineConfig } from "../../../engine/config.ts";
import { connectEngine, type EngineClient } from "../../../engine/engine-client.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import type { ConnectorSample, TokenEvent } from "../../../engine/request.ts";
import { connectorSource, writeSource } from "../../support/connector-files.ts";
import { ENGINE_CONFIG } from "../../support/engine-config.ts";
import { expectedOf, FULL, makeRequest, promptOf } from "../../support/scheduler-world.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const DEFINITION = { vocabSize: 50, groups: [FULL] };
const folder = temporaryFolder();
const clients: EngineClient[] = [];

/** An engine in a thread of its own, with connectors from files; the lines that it logs. */
class World {
  readonly lines: string[] = [];

  async connect(config: Partial<EngineConfig>): Promise<EngineClient> {
    const worker = new Worker(new URL("../../support/fake-engine-worker.ts", import.meta.url));
    const whole = { ...ENGINE_CONFIG, modelPath: "served", ...config };
    const client = await connectEngine(worker, whole, (level, line) => {
      this.lines.push(`${level}: ${line}`);
    });
    clients.push(client);
    return client;
  }
}

afterEach(async () => {
  for (const client of clients.splice(0)) await client.shutdown(0);
});

let nextFile = 0;
function fileOf(body: string, top = "", name = "mine"): Promise<string> {
  return writeSource(folder, `connector-${nextFile++}.ts`, connectorSource(name, body, top));
}

async function collect(stream: AsyncIterable<TokenEvent>): Promise<TokenEvent[]> {
  const events: TokenEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** A request's answer is the one without connectors. */
async function answers(client: EngineClient, id: number): Promise<void> {
  const request = makeRequest(id, promptOf(10, id, 50));
  const events = await collect(client.generate(request));
  expect(events.flatMap(({ tokenIds }) => tokenIds)).toEqual([
    ...expectedOf(request, DEFINITION).tokens,
  ]);
}

describe("connectors in the engine's thread", () => {
  test("log under their name, report metrics, and see requests", async () => {
    const path = await fileOf(`
      onSchedulerReady(context) { this.context = context; context.log.info("ready"); }
      onNewRequest(request) { this.context.metrics.count("requests", 1, { length: String(request.numPromptTokens) }); }
      stats() { return { entries: 3 }; }
    `);
    const world = new World();
    const client = await world.connect({ kvConnector: [path] });
    const samples = new Map<string, ConnectorSample>();
    const take = (list: readonly ConnectorSample[] = []): void => {
      for (const sample of list) samples.set(sample.name, sample);
    };
    take(client.stats().connectors);
    client.onStats(({ connectors }) => take(connectors));
    await answers(client, 1);
    await answers(client, 2);
    expect(world.lines).toEqual(["info: connector mine: ready"]);
    expect(samples.get("kvengine_connector_requests_total")).toMatchObject({
      type: "counter",
      labels: { connector: "mine", length: "10" },
      value: 2,
    });
    expect(samples.get("kvengine_connector_entries")).toMatchObject({ value: 3 });
  });

  test("that throw in a hook are disabled, and the engine serves on", async () => {
    const path = await fileOf(`onNewRequest() { throw new Error("boom"); }`);
    const world = new World();
    const client = await world.connect({ kvConnector: [path, "null"] });
    await answers(client, 1);
    await answers(client, 2);
    expect(world.lines.filter((line) => line.startsWith("error"))).toEqual([
      "error: connector mine is disabled: onNewRequest threw; what it holds is released, what it offers counts as a miss",
    ]);
  });

  test("that cannot be loaded end the start with their name", async () => {
    const path = await writeSource(folder, "broken.ts", "export default class {");
    const error = await thrownBy(() => new World().connect({ kvConnector: [path] }));
    expect(error.code).toBe("bad_config");
    expect(error.message).toContain("broken.ts:1:");
  });
});

/** A loop without an end, which nothing can interrupt. */
const LOOP = "for (;;) {}";

describe("code of a connector that does not return", () => {
  test("gives every request an error that names connector and hook, and is reported once", async () => {
    const path = await fileOf(
      `onNewRequest(request) { if (request.numPromptTokens === 3) ${LOOP} }`,
    );
    const client = await new World().connect({
      modelPath: "stuck",
      kvConnector: ["null", path],
      kvConnectorHangTimeout: 0.5,
    });
    const fatal: KvEngineError[] = [];
    client.onFatal((error) => fatal.push(error));
    const ids = [1, 2];
    const streams = ids.map((length) =>
      collect(client.generate(makeRequest(length, promptOf(length + 1, 1, 50)))),
    );
    for (const events of await Promise.all(streams)) {
      const { finish } = events.at(-1)!;
      expect(finish).toMatchObject({ reason: "error", error: { code: "connector_hung" } });
      expect(finish?.error?.message).toBe(
        `the connector ${path} has not returned from onNewRequest for 0.5 s`,
      );
    }
    expect(fatal.map(({ code }) => code)).toEqual(["connector_hung"]);
    expect(() => client.generate(makeRequest(3, [1]))).toThrow("the engine has stopped");
  });

  test.each([
    ["import", "", LOOP],
    ["import", "", "await new Promise(() => {});"],
    ["constructor", `constructor() { super(); ${LOOP} }`, ""],
    ["bindGpuBlockPool", `bindGpuBlockPool() { ${LOOP} }`, ""],
    ["onSchedulerReady", `onSchedulerReady() { ${LOOP} }`, ""],
  ])("at the start, in %s, ends it", async (hook, body, top) => {
    const path = await fileOf(body, top);
    const config = { kvConnector: [path], kvConnectorHangTimeout: 0.5 };
    const error = await thrownBy(() => new World().connect(config));
    expect(error).toMatchObject({
      code: "connector_hung",
      message: `the connector ${path} has not returned from ${hook} for 0.5 s`,
    });
  });

  test("at the end does not keep it from ending", async () => {
    const path = await fileOf(`shutdown() { ${LOOP} }`);
    const client = await new World().connect({ kvConnector: [path], kvConnectorHangTimeout: 0.5 });
    const fatal: string[] = [];
    client.onFatal(({ message }) => fatal.push(message));
    await client.shutdown(0);
    expect(fatal).toEqual([`the connector ${path} has not returned from shutdown for 0.5 s`]);
  });
});
