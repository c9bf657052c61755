/** Constructed misses of an engine with KV connectors. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../../connectors/cpu-offload.ts";
import { ExplainWorld } from "../../support/explain-world.ts";
import { checkMiss, evictAll, type Miss, text, TIGHT } from "../../support/miss-cases.ts";
import type { WorldOptions } from "../../support/scheduler-world.ts";

const offload = (hostPages = 400): Pick<WorldOptions, "connectors"> => ({
  connectors: {
    list: [{ name: "cpu-offload", connector: new CpuOffload({ mode: "eager" }) }],
    hostPages,
  },
});
const MISSES: readonly Miss[] = [
  {
    name: "what was evicted came back from the host",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      await evictAll(explained);
      return [await explained.send(text(100))];
    },
    told: { cause: "none", hit_tokens: 96, tiers: { device: 0, host: 96 } },
  },
  {
    name: "the host, too, had let go of it",
    options: { ...TIGHT, ...offload(8) },
    play: async (explained) => {
      await explained.send(text(60));
      await explained.send(text(190, "Other. "));
      await explained.send(text(190, "Third. "));
      return [await explained.send(text(60))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 0,
      removed: { at: expect.any(Number), by_request: 2, tier_dropped_at: expect.any(Number) },
    },
    says: "a tier had let go of its copy at",
  },
  {
    name: "computing was quicker than loading",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      await evictAll(explained);
      explained.world.desk!.loadBytesPerSecond = 1e-3;
      return [await explained.send(text(100))];
    },
    told: { cause: "quicker_to_compute", hit_tokens: 0 },
  },
  {
    name: "a load that failed in its middle",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      const { world } = explained;
      await evictAll(explained);
      const handle = explained.add(text(100));
      world.submit();
      await world.desk!.run(
        world.desk!.pending.find(({ kind }) => kind === "load")!,
        [4],
      );
      await world.drain();
      return [handle];
    },
    told: { cause: "load_failed", hit_tokens: 32, cached_tokens: 88 },
  },
];

describe("with offload, a miss by", () => {
  test.each(MISSES)("$name", checkMiss);

  test("a connector that is disabled is named", async () => {
    const broken = new CpuOffload({ mode: "eager" });
    broken.buildConnectorMeta = () => {
      throw new Error("broken");
    };
    const list = [{ name: "broken", connector: broken }];
    const explained = await ExplainWorld.create({
      ...TIGHT,
      connectors: { list, hostPages: 100 },
    });
    await explained.send(text(100));
    await explained.send(text(190, "Other. "));
    const told = explained.why(await explained.send(text(100)));
    expect(told.cause).toBe("evicted");
    expect(told.hints.join()).toContain("the KV connector broken is disabled");
    await explained.world.stop();
  });
});
