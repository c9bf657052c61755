import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { StepResult } from "../../../engine/scheduler/batch.ts";
import { makeRequest, World } from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 32, blockSize: 4, numBlocks: 100 };

describe("a result that is not whole", () => {
  let world: World;
  let result: StepResult;

  beforeAll(async () => {
    world = await World.create(ROOMY);
    for (const handle of [1, 2])
      world.add(handle, makeRequest(handle, [handle], { topLogprobs: 2 }));
    world.submit(1);
    world.runner.finishStep();
    result = await world.runner.next();
  });

  afterAll(async () => {
    world.scheduler.commit(result);
    world.scheduler.endAll("abort");
    await world.runner.stop();
  });

  test.each([
    ["tokens", Int32Array.of(5), "1 tokens; with 2 samples it must have 2"],
    ["finish", new Uint8Array(3), "3 finish; with 2 samples it must have 2"],
    ["logprobs", new Float32Array(0), "0 logprobs; with 2 samples it must have 2"],
    ["ranks", Int32Array.of(1), "1 ranks; with 2 samples it must have 2"],
    ["topStart", Int32Array.of(0, 2), "2 topStart; with 2 samples it must have 3"],
    ["topIds", Int32Array.of(1, 2, 3), "3 topIds; with 2 samples it must have 4"],
    ["topLogprobs", new Float32Array(5), "5 topLogprobs; with 2 samples it must have 4"],
  ])("%s of a wrong length is an error that names the numbers", (name, value, message) => {
    expect(() => world.scheduler.commit({ ...result, [name]: value })).toThrow(
      expect.objectContaining({
        code: "internal",
        message: `the result of step 0 has ${message}`,
      }),
    );
    expect(world.received.get(1)!.tokens).toEqual([]);
  });
});
