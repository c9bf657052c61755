import { describe, expect, test } from "bun:test";
import { type ClientSetup, DONE, event, REQUEST, TestClient } from "../../support/bench-client.ts";

describe("what is sent", () => {
  test("goes to completions as text or tokens, to chat as messages", async () => {
    using client = new TestClient({ headers: { authorization: "Bearer k" }, extra: { top_k: 3 } });
    const chat = [{ role: "user", content: "Hi" }] as const;
    const cases = [
      [{ kind: "text", text: "Hi" }, "/v1/completions", { prompt: "Hi" }],
      [{ kind: "tokens", tokenIds: [1, 2] }, "/v1/completions", { prompt: [1, 2] }],
      [{ kind: "chat", messages: chat }, "/v1/chat/completions", { messages: chat }],
    ] as const;
    for (const [prompt, path, fields] of cases) {
      const sent = client.send({ prompt, ignoreEos: true });
      const exchange = await client.server.next();
      expect([exchange.method, exchange.path]).toEqual(["POST", path]);
      expect(exchange.headers.get("authorization")).toBe("Bearer k");
      expect(exchange.headers.get("host")).toBe(new URL(client.server.url).host);
      expect(exchange.json).toEqual({
        model: "m",
        max_tokens: REQUEST.maxTokens,
        stream: true,
        stream_options: { include_usage: true },
        ignore_eos: true,
        top_k: 3,
        ...fields,
      });
      exchange.openStream();
      exchange.chunk(event("a") + DONE);
      exchange.endChunks();
      await sent;
    }
  });

  test("asks for the count of each chunk in the words of the server", async () => {
    const asked = async (setup: ClientSetup): Promise<Record<string, unknown>> => {
      using client = new TestClient(setup);
      const sent = client.send();
      const exchange = await client.server.next();
      exchange.answer("500 No", "text/plain", "");
      await sent;
      return exchange.json;
    };
    const continuous = { include_usage: true, continuous_usage_stats: true };
    for (const kind of ["kvengine", "vllm", "sglang"] as const)
      expect((await asked({ kind }))["stream_options"]).toEqual(continuous);
    expect((await asked({ kind: "sglang" }))["return_cached_tokens_details"]).toBe(true);
    expect((await asked({ kind: "llama-server" }))["timings_per_token"]).toBe(true);
    const plain = await asked({ kind: "vllm", countChunks: false });
    expect(plain["stream_options"]).toEqual({ include_usage: true });
    expect("ignore_eos" in plain).toBe(false);
  });

  test("may be larger than what a socket takes at once", async () => {
    using client = new TestClient();
    const text = "ä".repeat(8 * 1024 * 1024);
    const sent = client.send({ prompt: { kind: "text", text } });
    const exchange = await client.server.next();
    expect(exchange.json["prompt"]).toBe(text);
    exchange.answer("500 No", "text/plain", "");
    await sent;
  });
});

describe("connections", () => {
  const answered = async (client: TestClient): Promise<void> => {
    const sent = client.send();
    const exchange = await client.server.next();
    exchange.openStream();
    exchange.chunk(event("a") + DONE);
    exchange.endChunks();
    expect((await sent).record.outcome).toBe("ok");
  };

  test("are kept for the next request", async () => {
    using client = new TestClient();
    await answered(client);
    await answered(client);
    expect(client.server.numConnections).toBe(1);
  });

  test("are as many as requests run at a time", async () => {
    using client = new TestClient();
    const sent = Array.from({ length: 300 }, () => client.send());
    for (let i = 0; i < sent.length; i++) {
      const exchange = await client.server.next();
      exchange.openStream();
      exchange.chunk(event("a") + DONE);
      exchange.endChunks();
    }
    const outcomes = (await Promise.all(sent)).map(({ record }) => record.outcome);
    expect(new Set(outcomes)).toEqual(new Set(["ok"]));
    expect(client.server.numConnections).toBe(300);
  });

  test("that the server has closed meanwhile are opened anew, and the request is sent again", async () => {
    using client = new TestClient();
    await answered(client);
    const sent = client.send();
    const first = await client.server.next();
    first.hangUp();
    const again = await client.server.next();
    expect([first.connection, again.connection]).toEqual([0, 1]);
    again.openStream();
    again.chunk(event("a") + DONE);
    again.endChunks();
    expect((await sent).record.outcome).toBe("ok");
  });

  test("are not kept where the server says that it closes", async () => {
    using client = new TestClient();
    const sent = client.send();
    const exchange = await client.server.next();
    exchange.raw(
      `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n${event("a")}${DONE}`,
    );
    exchange.hangUp();
    expect((await sent).record.outcome).toBe("ok");
    await answered(client);
    expect(client.server.numConnections).toBe(2);
  });
});
