/** What goes through a recording client reaches the engine as it was given. */

import { expect, test } from "bun:test";
import type { FinishedRequest } from "../../../engine/recording/trace-line.ts";
import { RecordingClient } from "../../../engine/recording/recording-client.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";
import { FakeEngineClient } from "../../support/fake-engine-client.ts";

function open(): { fake: FakeEngineClient; client: RecordingClient; finished: FinishedRequest[] } {
  const fake = new FakeEngineClient();
  const finished: FinishedRequest[] = [];
  const counts = { written: 0, lost: 0 };
  const recorder = { add: (one: FinishedRequest) => void finished.push(one), counts };
  return { fake, client: new RecordingClient(fake, recorder), finished };
}

test("who observes a request sees its tokens, and it is recorded", async () => {
  const { client, finished } = open();
  let observed = 0;
  const request = {
    ...{ id: "one", promptTokenIds: Int32Array.of(1, 2), arrivalTime: 0, priority: 0 },
    sampling: { ...DEFAULT_SAMPLING, maxTokens: 16 },
  };
  const source = client.generate(request, (event) => void (observed += event.tokenIds.length));
  let taken = 0;
  for await (const event of source) taken += event.tokenIds.length;
  expect(taken).toBe("Hello".length);
  expect(observed).toBe(taken);
  expect(finished).toHaveLength(1);
});

test("a reset says whether copies elsewhere go too", async () => {
  const { fake, client } = open();
  await client.resetPrefixCache();
  await client.resetPrefixCache({ resetExternal: false });
  expect(fake.externalResets).toEqual([true, false]);
});
