import { describe, expect, test } from "bun:test";
import type { TokenEvent } from "../../../engine/request.ts";
import { testApp } from "./test-app.ts";

const PARAMS = { peer: { host: "b", blocks: [1, 2] } };
const ENDING: readonly TokenEvent[] = [
  {
    tokenIds: [104, 105],
    logprobs: [-1, -1],
    finish: {
      reason: "stop",
      transferParams: PARAMS,
      usage: { promptTokens: 1, completionTokens: 2, cachedTokens: 0 },
      timing: { queued: 0, prefill: 0, decode: 0 },
    },
  },
];

describe.each(["chat", "complete"] as const)("kv_transfer_params of %s", (endpoint) => {
  test("go to the connectors as they are, and what connectors answer comes back", async () => {
    const app = testApp();
    app.client.script = () => ENDING;
    const response = await app[endpoint]({ kv_transfer_params: { from: "a" } });
    expect(app.client.sequences[0]?.request.transferParams).toEqual({ from: "a" });
    expect(await response.json()).toMatchObject({ kv_transfer_params: PARAMS });
  });

  test("come in a stream's last frame, with usage and without", async () => {
    for (const include_usage of [true, false]) {
      const app = testApp();
      app.client.script = () => ENDING;
      const response = await app[endpoint]({ stream: true, stream_options: { include_usage } });
      const frames = (await response.text()).trim().split("\n\n");
      expect(frames.at(-1)).toBe("data: [DONE]");
      const last = JSON.parse(frames.at(-2)!.slice("data: ".length)) as Record<string, unknown>;
      expect(last).toMatchObject({ choices: [], kv_transfer_params: PARAMS });
      expect("usage" in last).toBe(include_usage);
    }
  });

  test("are an object or absent", async () => {
    const { [endpoint]: ask } = testApp();
    for (const wrong of [[], "x", 1]) {
      const response = await ask({ kv_transfer_params: wrong });
      expect(response.status).toBe(400);
      expect(await response.text()).toContain("kv_transfer_params");
    }
  });
});
