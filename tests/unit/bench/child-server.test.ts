import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type ChildServer, startChild } from "../../../cli/bench/servers/child-server.ts";
import { thrownBy } from "../../support/thrown.ts";

const SCRIPT = join(import.meta.dir, "../../support/programs/small-server.ts");
const LONG = 60_000;

function start(mode: string, timeoutMs = LONG, signal?: AbortSignal): Promise<ChildServer> {
  const ends = mode === "port" || mode === "models" ? ["{port}"] : [];
  const words = [process.execPath, SCRIPT, mode, ...ends];
  return startChild({ name: "small", words }, timeoutMs, signal);
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    () => false,
  );
}

describe("a server that the bench starts", () => {
  for (const mode of ["say", "port", "models"]) {
    test(`is ready when it answers, and gone when it is stopped (${mode})`, async () => {
      const server = await start(mode);
      expect(server.baseUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
      expect(server.command.join(" ")).not.toContain("{port}");
      expect(await answers(`${server.baseUrl}/v1/models`)).toBe(true);
      await server.stop();
      expect(await answers(`${server.baseUrl}/v1/models`)).toBe(false);
      await server.stop();
    });
  }

  test("that ends at once shows the end of what it said", async () => {
    const error = await thrownBy(() => start("fail"));
    expect(error.code).toBe("unavailable");
    expect(error.message).toBe("small ended with 3:\nfirst line\nthe model is too large");
    expect(error.hint).toContain("small-server.ts fail");
  });

  test("that does not get ready in time is stopped", async () => {
    const error = await thrownBy(() => start("silent", 1));
    expect(error.message).toStartWith("small is not ready after 0.001 s");
  });

  test("is stopped when the bench is interrupted while it waits", async () => {
    const interrupt = new AbortController();
    const started = start("silent", LONG, interrupt.signal);
    interrupt.abort();
    const error = await thrownBy(() => started);
    expect(error.message).toStartWith("small was stopped before it was ready");
  });

  test("that does not exist is refused", async () => {
    const command = { name: "none", words: ["/no/such/program"] };
    const error = await thrownBy(() => startChild(command, LONG));
    expect([error.code, error.subject]).toEqual(["bad_config", "/no/such/program"]);
  });
});
