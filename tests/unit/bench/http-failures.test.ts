import { describe, expect, test } from "bun:test";
import type { Sent } from "../../../cli/bench/load/send.ts";
import { data, DONE, event, recordOf, TestClient, usage } from "../../support/bench-client.ts";
import { closedPort } from "../../support/scripted-server.ts";

describe("a request that fails", () => {
  test("because nobody listens is unreachable", async () => {
    const port = closedPort();
    using client = new TestClient({ url: `http://127.0.0.1:${port}` });
    const { record, unreachable } = await client.send();
    expect(unreachable).toBe(true);
    expect([record.status, record.outcome, record.chunks]).toEqual([0, "error", []]);
    expect(record.error).toBe(`cannot connect to 127.0.0.1:${port}: connection refused`);
  });

  test("because TLS is spoken to a server that does not is unreachable", async () => {
    const plain = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n") },
    });
    using client = new TestClient({ url: `https://127.0.0.1:${plain.port}` });
    const { record, unreachable } = await client.send();
    plain.stop(true);
    expect([unreachable, record.outcome]).toEqual([true, "error"]);
    expect(record.error).toMatch(/^(TLS failed|cannot connect to 127.0.0.1:\d+): /);
  });

  test("with a status has the message of the body, in each server's form", async () => {
    const cases = [
      [
        "503 Service Unavailable",
        '{"error":{"message":"draining"}}',
        "503 Service Unavailable: draining",
      ],
      ["400 Bad Request", '{"object":"error","message":"too long"}', "400 Bad Request: too long"],
      ["422 Unprocessable", '{"detail":"no field n"}', "422 Unprocessable: no field n"],
      ["404 Not Found", '{"error":"no model"}', "404 Not Found: no model"],
      ["500 Oops", "stack trace", "500 Oops: stack trace"],
      ["502 Bad Gateway", "", "502 Bad Gateway"],
      [
        "400 Bad Request",
        JSON.stringify({ message: "x".repeat(500) }),
        `400 Bad Request: ${"x".repeat(200)}…`,
      ],
    ] as const;
    for (const [status, body, says] of cases) {
      using client = new TestClient();
      const sent = client.send();
      (await client.server.next()).answer(status, "application/json", body);
      const { record } = await sent;
      expect([record.outcome, record.error]).toEqual(["error", says]);
      expect(record.status).toBe(Number(status.slice(0, 3)));
    }
  });

  test("because something else than a stream comes says what came", async () => {
    using client = new TestClient();
    const sent = client.send();
    (await client.server.next()).answer("200 OK", "text/html", "<h1>Welcome</h1>");
    expect((await sent).record.error).toBe(
      "the server answered text/html instead of a stream: <h1>Welcome</h1>",
    );
  });

  test("because no output comes in time is given up", async () => {
    using client = new TestClient({ patience: { firstChunkMs: 5000 } });
    const sent = client.send();
    const exchange = await client.server.next();
    await client.clock.advance(4999);
    exchange.openStream();
    await client.read(() => exchange.chunk(": ping\n\n"));
    await client.clock.advance(201);
    const { record } = await sent;
    expect([record.outcome, record.error]).toEqual(["error", "no output came within 5 s"]);
  });

  test("because the stream stalls keeps what came, and is cut", async () => {
    using client = new TestClient({ patience: { stallMs: 1000 } });
    const sent = client.send();
    const exchange = await client.server.next();
    exchange.openStream();
    await client.read(() => exchange.chunk(event("a", usage(5, 1))));
    await client.clock.advance(900);
    await client.read(() => exchange.chunk(event("b", usage(5, 2))));
    await client.clock.advance(1100);
    const { record } = await sent;
    expect(record).toMatchObject({
      outcome: "cut",
      error: "stalled: nothing came for 1 s after 2 chunks",
      chunks: [
        { at: 0, numTokens: 1 },
        { at: 900, numTokens: 1 },
      ],
      outputTokens: 2,
      countedBy: "usage",
      text: "ab",
    });
    expect(record.endedAt).toBeLessThanOrEqual(2000);
  });

  for (const how of ["in order", "reset"] as const) {
    test(`because the connection ends in the middle (${how}) keeps what came, and is cut`, async () => {
      using client = new TestClient();
      const sent = client.send();
      const exchange = await client.server.next();
      exchange.openStream();
      await client.read(() => exchange.chunk(event("a")));
      exchange.hangUp(how);
      const { record } = await sent;
      expect([record.outcome, record.text, record.outputTokens]).toEqual(["cut", "a", 1]);
      expect(record.error).toStartWith("the connection ended in the middle of the answer");
    });
  }

  test("because the connection ends before an answer is an error", async () => {
    using client = new TestClient();
    const sent = client.send();
    (await client.server.next()).hangUp();
    const { record } = await sent;
    expect([record.outcome, record.error]).toEqual([
      "error",
      "the connection ended before an answer came",
    ]);
  });

  test("because the body ends without its end is cut", async () => {
    const record = await recordOf([[1, event("a")]]);
    expect([record.outcome, record.error]).toEqual([
      "cut",
      "the stream ended without its end after 1 chunks",
    ]);
  });

  test("because a stream has no output is an error", async () => {
    const record = await recordOf([[1, DONE]]);
    expect([record.outcome, record.error]).toEqual(["error", "the answer has no output"]);
  });

  test("because of a malformed event keeps what came before it", async () => {
    const cases = [
      [data("{"), "malformed event: { is not a JSON object"],
      [data("[]"), "malformed event: [] is not a JSON object"],
      ["nonsense\n\n", "malformed event: nonsense"],
      ["<html>\n", "malformed event: <html>"],
    ] as const;
    for (const [bad, says] of cases) {
      const { record } = await broken(event("a") + bad);
      expect([record.outcome, record.text, record.error]).toEqual(["cut", "a", says]);
    }
  });

  test("because the server reports an error in the stream has its message", async () => {
    const { record } = await broken(event("a") + data({ error: { message: "out of blocks" } }));
    expect([record.outcome, record.error]).toEqual(["cut", "the server reported: out of blocks"]);
  });

  test("because what comes is not HTTP says so", async () => {
    using client = new TestClient();
    const sent = client.send();
    (await client.server.next()).raw("220 mail ready\r\n");
    expect((await sent).record.error).toBe("`220 mail ready` is no HTTP/1.1 status");
  });

  test("because it is stopped keeps what came, and says why", async () => {
    using client = new TestClient();
    const sent = client.send();
    const exchange = await client.server.next();
    exchange.openStream();
    await client.read(() => exchange.chunk(event("a")));
    client.interrupt.abort("interrupted");
    const { record } = await sent;
    expect([record.outcome, record.error, record.text]).toEqual([
      "cut",
      "stopped: interrupted",
      "a",
    ]);
    expect((await client.send()).record.error).toBe("stopped: interrupted");
  });
});

/** A stream that the client leaves. */
async function broken(text: string): Promise<Sent> {
  using client = new TestClient();
  const sent = client.send();
  const exchange = await client.server.next();
  exchange.openStream();
  exchange.chunk(text);
  return await sent;
}
