import { expect, test } from "bun:test";
import { makeRequest, World } from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 32, blockSize: 4, numBlocks: 100 };

test("where a request's time went: queue, prefill, decode, each from the end of the one before", async () => {
  const world = await World.create({ ...ROOMY, maxNumSeqs: 1 });
  const pass = (ms: number): number => (world.idleMs += ms);
  const timing = (handle: number): object => world.received.get(handle)!.finish!.timing;
  world.add(1, makeRequest(1, [1, 2], { maxTokens: 3 }));
  pass(10);
  world.submit(1);
  world.add(2, makeRequest(2, [3, 4], { maxTokens: 1 }));
  pass(100);
  await world.commit();
  for (let token = 0; token < 2; token++) {
    pass(1000);
    world.submit(1);
    await world.commit();
  }
  // A commit takes a millisecond of this clock.
  expect(timing(1)).toEqual({ queued: 10, prefill: 100, decode: 2002 });
  pass(5);
  world.submit(1);
  pass(7);
  await world.commit();
  expect(timing(2)).toEqual({ queued: 2100 + 3 + 5, prefill: 7, decode: 0 });
  world.add(3, makeRequest(3, [5], { maxTokens: 2 }));
  pass(20);
  world.abort(3);
  expect(timing(3)).toEqual({ queued: 20, prefill: 0, decode: 0 });
  world.add(4, makeRequest(4, [6], { maxTokens: 2 }));
  world.submit(1);
  pass(30);
  world.abort(4);
  expect(timing(4)).toEqual({ queued: 0, prefill: 30, decode: 0 });
  await world.end();
});
