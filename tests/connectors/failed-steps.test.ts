/** A step that fails while others wait for loads behind the blocks that it was to fill (I19, I28). */

import { expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { ServingWorld } from "../support/serving-world.ts";

test("who waits for a load behind a block of a failed step is computed again, and nobody finds that block", async () => {
  const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }), { numBlocks: 24 });
  const { world } = serving;
  const desk = world.desk!;
  await serving.away(1);
  serving.add(30, 40, 4);
  await world.drain();
  // Only the last of the five blocks is brought: the first four are to be computed by the step that fails.
  desk.loadBytesPerSecond = 1;
  const fails = serving.add(1, 17, 4);
  world.runner.failNextStep("chance");
  expect(world.submit(1)).toBe(true);
  desk.loadBytesPerSecond = 1e18;
  const waits = serving.add(1, 24, 4);
  world.submit(2);
  expect(
    desk.pending.filter(({ kind }) => kind === "load").map(({ blocks }) => blocks.length),
  ).toEqual([1]);
  await world.commit();
  expect(world.received.get(fails)!.finish?.reason).toBe("error");
  await world.drain();
  const again = serving.add(1, 24, 4);
  await world.drain();
  expect(world.received.get(waits)!.finish?.reason).toBe("length");
  expect(world.received.get(again)!.finish?.reason).toBe("length");
  serving.expectNothingLeft([fails]);
  await world.stop();
});
