import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { RULES } from "../../../connectors/conformance-rules.ts";
import { testConnector } from "../../../connectors/conformance.ts";
import { KvConnector } from "../../../connectors/connector.ts";
import { HookTurn } from "../../../engine/connectors/hook-turn.ts";
import { loadConnectors } from "../../../engine/connectors/load-connector.ts";
import { harnessOf } from "../../support/conformance-harness.ts";
import { ConnectorWorld } from "../../support/connector-world.ts";
import Frozen from "./version-1.ts";

const PATH = join(import.meta.dir, "version-1.ts");

describe("the connector of version 1", () => {
  test("is as it was: who must change it makes a new major version", async () => {
    const digest = createHash("sha256")
      .update(await Bun.file(PATH).bytes())
      .digest("hex");
    expect(digest).toBe("c5b031bf2b4df16f1ebe23a7c8fdc22dad6785f064b2bbf188a991cd4627f527");
  });

  test("is loaded as a user's is, with the engine's own base class", async () => {
    const flags = {
      kvConnector: [PATH],
      kvConnectorOptions:
        '{"copies": 8, "share": 0.25, "size": "1GiB", "enabled": true, "tier": "host", "mode": "lazy"}',
    };
    const [loaded] = await loadConnectors(flags, "/", new HookTurn());
    expect(loaded).toMatchObject({ name: "frozen", path: PATH });
    expect(loaded?.connector).toBeInstanceOf(KvConnector);
  });

  test("keeps every rule of the interface", async () => {
    const results = await testConnector(harnessOf(Frozen), RULES);
    expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
  });

  test("lives its life without a fault", async () => {
    const connector = harnessOf(Frozen).create();
    const world = new ConnectorWorld([{ name: "frozen", connector }]).start();
    world.callAll();
    world.callAll();
    await world.host.shutdown(1000);
    const faults = world
      .samples()
      .filter(({ name, value }) => name === "kvengine:connector_faults_total" && value > 0);
    expect(faults).toEqual([]);
    expect(world.disabled).toEqual([]);
    expect(world.lines.map((line) => line.split(":")[0])).not.toContain("error");
    expect(world.lines[0]).toBe("info: connector frozen: frozen: full 0; 0 pages of 1024 bytes");
  });
});
