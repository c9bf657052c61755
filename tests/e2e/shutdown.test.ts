import { expect, test } from "bun:test";
import { events, post, startServer } from "../support/server.ts";

const LONG = {
  model: "m",
  prompt: "Once upon a time",
  ignore_eos: true,
  stream: true,
  temperature: 0,
};
const NAME = ["--served-model-name", "m"];

test("SIGTERM lets a running answer end, refuses new ones, and exits with 0", async () => {
  await using server = await startServer([...NAME, "--shutdown-timeout", "100"]);
  const stream = events(await post(server, "/v1/completions", { ...LONG, max_tokens: 200 }));
  await stream.next();
  server.kill("SIGTERM");
  await server.saysOnStderr("SIGTERM");
  const late = await post(server, "/v1/completions", { ...LONG, max_tokens: 1 });
  expect(late.status).toBe(503);
  expect(late.headers.get("retry-after")).not.toBeNull();
  let finish: unknown;
  for await (const event of stream) {
    const [choice] = event["choices"] as { finish_reason?: string | null }[];
    finish = choice?.finish_reason ?? finish;
  }
  expect(finish).toBe("length");
  expect(await server.exited).toBe(0);
}, 120_000);

test("a second SIGTERM stops at once", async () => {
  await using server = await startServer([...NAME, "--shutdown-timeout", "1000"]);
  const stream = events(await post(server, "/v1/completions", { ...LONG, max_tokens: 6000 }));
  await stream.next();
  server.kill("SIGTERM");
  await server.saysOnStderr("SIGTERM");
  server.kill("SIGTERM");
  expect(await server.exited).toBe(143);
  expect(server.stderr()).toContain("stopping at once");
}, 120_000);

test("with --shutdown-timeout 0 running answers are cut", async () => {
  await using server = await startServer([...NAME, "--shutdown-timeout", "0"]);
  const stream = events(await post(server, "/v1/completions", { ...LONG, max_tokens: 6000 }));
  await stream.next();
  server.kill("SIGINT");
  expect(await server.exited).toBe(0);
}, 120_000);

test("an idle server ends at the first signal", async () => {
  await using server = await startServer(NAME);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
}, 60_000);
