/** Streams that are waited for, that nobody reads, and that take too long. */

import { describe, expect, test } from "bun:test";
import { StreamClock } from "../../../engine/server/stream-clock.ts";
import type { AccessEntry } from "../../../engine/server/access-log.ts";
import { NO_TIMING } from "../../support/fake-engine-client.ts";
import { events, refusal, testApp, USER } from "./test-app.ts";

/** The next piece of a stream. */
async function piece(reader: {
  read(): Promise<{ readonly value?: Uint8Array | undefined }>;
}): Promise<string> {
  return new TextDecoder().decode((await reader.read()).value);
}

const SOON = 0.01;
/** Several times as long, by the timers that are tested. */
async function longerThan(seconds: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const times = { keepAlive: 3 * seconds, slowReader: 0 };
  const clock = new StreamClock(times, { isQuiet: resolve, isStill: resolve });
  await promise;
  clock.stop();
}

const END = {
  reason: "stop",
  usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
  timing: NO_TIMING,
} as const;

describe("a stream without news", () => {
  test("says where in the queue it is, then that its prompt is computed, then that it is alive", async () => {
    const { chat, client } = testApp({ streamTimes: { keepAlive: SOON, slowReader: 0 } });
    client.script = undefined;
    client.report({ waiting: 2 });
    const first = await chat({ stream: true });
    const second = await chat({ stream: true });
    const reader = (second.body as NonNullable<typeof second.body>).getReader();
    const next = async (text: string): Promise<void> => {
      while ((await piece(reader)) !== text);
    };
    await next(": queue position 2\n\n");
    client.report({ waiting: 0 });
    await next(": the prompt is being computed\n\n");
    client.sequences[1]?.sendText("a");
    await next(": keep-alive\n\n");
    client.sequences[1]?.send({ tokenIds: [], logprobs: [], finish: END });
    let last = "";
    for (let text = await piece(reader); text !== ""; text = await piece(reader)) last = text;
    expect(last).toEndWith("data: [DONE]\n\n");
    await first.body?.cancel();
  });
});

describe("a reader that takes nothing", () => {
  test("is cut with a reason, and its sequence is given up", async () => {
    const entries: AccessEntry[] = [];
    const { chat, client, errors } = testApp({
      streamTimes: { keepAlive: 0, slowReader: SOON },
      onAccess: (entry) => entries.push(entry),
    });
    client.script = undefined;
    const response = await chat({ stream: true });
    await client.abortsArrived(1);
    const text = await response.text();
    expect(text).toContain('"code":"timeout"');
    expect(text).toEndWith("data: [DONE]\n\n");
    expect(errors.map(({ code }) => code)).toEqual(["timeout"]);
    expect(entries).toMatchObject([{ outcome: "slow" }]);
  });

  test("is not one that waits for tokens", async () => {
    const { chat, client } = testApp({ streamTimes: { keepAlive: 0, slowReader: SOON } });
    client.script = undefined;
    const response = await chat({ stream: true });
    const reader = (response.body as NonNullable<typeof response.body>).getReader();
    await piece(reader);
    const next = piece(reader);
    await longerThan(SOON);
    client.sequences[0]?.sendText("a");
    expect(await next).toContain('"content":"a"');
    expect(client.aborted).toEqual([]);
    await reader.cancel();
  });
});

describe("a request that takes too long", () => {
  test("is refused where nothing was sent, and cut where it streams", async () => {
    const { chat, client, post } = testApp({ requestTimeout: SOON });
    client.script = undefined;
    expect(await refusal(chat({}))).toMatchObject({ status: 504, code: "timeout" });
    expect(client.aborted).toHaveLength(1);
    const last = (await events(chat({ stream: true }))).at(-2) ?? "";
    expect(JSON.parse(last).error.code).toBe("timeout");
    const response = await post("/v1/responses", { input: "hi", stream: true });
    expect(await response.text()).toContain("event: response.failed");
    expect(client.aborted).toHaveLength(3);
  });

  test("may take as long as it likes where there is no limit, and its timer ends with it", async () => {
    const { app, client } = testApp({ requestTimeout: 1000 });
    client.script = undefined;
    const body = JSON.stringify({ messages: USER });
    const headers = { "content-type": "application/json" };
    const answer = app.request("/v1/chat/completions", { method: "POST", headers, body });
    const [sequence] = await client.arrived(1);
    sequence?.send({ tokenIds: [97], logprobs: [0], finish: END });
    expect((await answer).status).toBe(200);
  });
});

test("a clock that was stopped tells nothing", async () => {
  const told: string[] = [];
  const watch = { isQuiet: () => told.push("quiet"), isStill: () => told.push("still") };
  const clock = new StreamClock({ keepAlive: SOON, slowReader: SOON }, watch);
  clock.stop();
  await longerThan(SOON);
  expect(told).toEqual([]);
});
