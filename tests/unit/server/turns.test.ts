import { describe, expect, test } from "bun:test";
import { Turns } from "../../../engine/server/turns.ts";
import { testApp } from "./test-app.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a burst of requests", () => {
  test("is begun a few in each turn of the event loop, in order", async () => {
    const turns = new Turns();
    const begun: number[] = [];
    const all = Array.from({ length: 20 }, async (_, i) => {
      await turns.next();
      begun.push(i);
    });
    const counts: number[] = [];
    for (let i = 0; i < 3; i++) {
      await Promise.resolve();
      counts.push(begun.length);
      await turn();
    }
    expect(counts).toEqual([8, 16, 20]);
    await Promise.all(all);
    expect(begun).toEqual(begun.toSorted((a, b) => a - b));
  });

  test("leaves a turn for who comes later alone, and nobody behind", async () => {
    const turns = new Turns();
    for (let i = 0; i < 3; i++) {
      await turns.next();
      await turn();
    }
    await Promise.all(Array.from({ length: 100 }, () => turns.next()));
  });

  test("does not hold up whoever asks for the server's health", async () => {
    const { app, complete, client } = testApp();
    const answers = Array.from({ length: 50 }, () => complete({}));
    expect((await app.request("/health")).status).toBe(200);
    expect(client.sequences.length).toBeLessThan(50);
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200);
  });
});
