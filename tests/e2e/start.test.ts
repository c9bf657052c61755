/** `npm start` as npm runs it. The set-up itself has been done by whoever runs these tests. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { runCli, startServer } from "../support/server.ts";

const START = join(import.meta.dir, "../../cli/setup/start.mjs");
const OPTIONS = { command: ["node", START], subcommand: [] };

test("passes model and flags on, and a signal once", async () => {
  await using server = await startServer(["--served-model-name", "m"], OPTIONS);
  const models = (await (await fetch(`${server.url}/v1/models`)).json()) as {
    data: { id: string }[];
  };
  expect(models.data[0]?.id).toBe("m");
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
  expect(server.stderr()).not.toContain("stopping at once");
}, 120_000);

test("ends with the server's exit code", async () => {
  const result = await runCli(["--porrt", "1"], { command: ["node", START] });
  expect([result.code, result.stderr]).toEqual([
    2,
    expect.stringContaining("did you mean `--port`?"),
  ]);
}, 120_000);
