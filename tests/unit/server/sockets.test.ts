/** Real sockets on free ports: what only shows outside of `app.request()`. */

import { afterEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import type { AppDeps } from "../../../engine/server/deps.ts";
import { type HttpServer, serveHttp } from "../../../engine/server/listen.ts";
import { NO_TIMING, say } from "../../support/fake-engine-client.ts";
import { refusal, testApp, type TestApp, USER } from "./test-app.ts";

const open: HttpServer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.stop(true)));
});

function listen(
  deps: Partial<AppDeps> = {},
): TestApp & { readonly url: string; readonly server: HttpServer } {
  const test = testApp(deps);
  const server = serveHttp(test.app, { host: "127.0.0.1", port: 0 });
  open.push(server);
  return { ...test, url: server.url, server };
}

const chatBody = (more: object = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ messages: USER, stream: true, ...more }),
});
const END = {
  reason: "stop",
  usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
  timing: NO_TIMING,
} as const;

/** A raw connection; `all` is everything until the other side closes. */
function dial(url: string): { socket: Socket; all: Promise<string>; connected: Promise<void> } {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (data) => (text += data.toString("latin1")));
  const all = new Promise<string>((resolve) => {
    socket.on("close", () => resolve(text));
    socket.on("error", () => resolve(text));
  });
  const connected = new Promise<void>((resolve) => socket.on("connect", () => resolve()));
  return { socket, all, connected };
}

describe("serveHttp", () => {
  test("answers at the url it tells, which has no slash at its end", async () => {
    const { url } = listen();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  test("a port in use is an error with what to do", () => {
    const { url, app } = listen();
    const port = Number(new URL(url).port);
    expect(() => serveHttp(app, { host: "127.0.0.1", port })).toThrow(
      expect.objectContaining({
        code: "port_in_use",
        message: `port ${port} of 127.0.0.1 is in use`,
        hint: expect.stringContaining("--port"),
      }) as never,
    );
  });

  test("an address of another machine is an error that names it", () => {
    expect(() => serveHttp(testApp().app, { host: "203.0.113.1", port: 0 })).toThrow(
      expect.objectContaining({
        code: "bad_config",
        subject: "host",
        message: expect.stringContaining("203.0.113.1"),
      }) as never,
    );
  });

  test("stop() lets a running stream end", async () => {
    const { url, server, client } = listen();
    client.script = undefined;
    const response = await fetch(`${url}/v1/chat/completions`, chatBody());
    const [sequence] = await client.arrived(1);
    const text = response.text();
    const stopped = server.stop();
    sequence?.sendText("still here");
    sequence?.send({ tokenIds: [], logprobs: [], finish: END });
    expect(await text).toContain("[DONE]");
    await stopped;
    const after = await fetch(`${url}/health`).then(
      () => "answered",
      () => "refused",
    );
    expect(after).toBe("refused");
  });
});

describe("streams over sockets", () => {
  test("each token goes out when it comes", async () => {
    const { url, client } = listen();
    client.script = undefined;
    const response = await fetch(`${url}/v1/chat/completions`, chatBody());
    const reader = response.body?.getReader();
    const [sequence] = await client.arrived(1);
    let seen = "";
    const readUntil = async (text: string): Promise<void> => {
      while (!seen.includes(text)) seen += new TextDecoder().decode((await reader?.read())?.value);
    };
    await readUntil('"role":"assistant"');
    for (const letter of ["A", "B", "C"]) {
      sequence?.sendText(letter);
      await readUntil(`"content":"${letter}"`);
    }
    sequence?.send({ tokenIds: [], logprobs: [], finish: END });
    await readUntil("[DONE]");
  });

  test("32 at once, tokens interleaved, each gets its own text", async () => {
    const { url, client } = listen();
    client.script = undefined;
    const answers = Array.from({ length: 32 }, async (_, i) => {
      const response = await fetch(`${url}/v1/chat/completions`, chatBody({ seed: i }));
      const lines = (await response.text())
        .split("\n\n")
        .filter((line) => line.startsWith("data: {"));
      return lines.map((line) => JSON.parse(line.slice(6)).choices[0].delta.content ?? "").join("");
    });
    const sequences = await client.arrived(32);
    for (let at = 0; at < 20; at++) {
      for (const sequence of sequences) {
        sequence.sendText(
          String.fromCharCode(97 + ((sequence.request.sampling.seed[0] + at) % 26)),
        );
      }
    }
    for (const sequence of sequences) sequence.send({ tokenIds: [], logprobs: [], finish: END });
    const expected = Array.from({ length: 32 }, (_, i) =>
      Array.from({ length: 20 }, (__, at) => String.fromCharCode(97 + ((i + at) % 26))).join(""),
    );
    expect(await Promise.all(answers)).toEqual(expected);
    expect(client.aborted).toEqual([]);
  });

  test("a client that goes away mid-stream aborts its sequence, while it waits for a token", async () => {
    const { url, client } = listen();
    client.script = undefined;
    const controller = new AbortController();
    const response = await fetch(`${url}/v1/chat/completions`, {
      ...chatBody(),
      signal: controller.signal,
    });
    await response.body?.getReader().read();
    const [sequence] = await client.arrived(1);
    controller.abort();
    await client.abortsArrived(1);
    expect(client.aborted).toEqual([sequence?.request.id as string]);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  test("a socket that is cut aborts a request for a whole answer", async () => {
    const { url, client } = listen();
    client.script = undefined;
    const { socket, connected } = dial(url);
    await connected;
    const body = '{"prompt":"a","n":2}';
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await client.arrived(2);
    socket.destroy();
    await client.abortsArrived(2);
    expect(client.sequences.every((one) => one.returned)).toBe(true);
  });

  test("a client that does not read holds back its own stream and no other", async () => {
    const { url, client } = listen();
    const slow = dial(url);
    await slow.connected;
    slow.socket.pause();
    client.info = { ...client.info, maxModelLen: 400_000, numBlocks: 100_000 };
    client.script = say("x".repeat(200_000));
    const body = JSON.stringify({ messages: USER, stream: true });
    slow.socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const [sequence] = await client.arrived(1);
    client.script = say("quick");
    // Until the buffers of both sockets are full: nothing more is taken while others are served.
    let before = -1;
    for (let unchanged = 0; unchanged < 20;) {
      expect(await (await fetch(`${url}/v1/chat/completions`, chatBody())).text()).toContain(
        "[DONE]",
      );
      const untaken = sequence?.untaken ?? 0;
      unchanged = untaken === before ? unchanged + 1 : 0;
      before = untaken;
    }
    expect(before).toBeGreaterThan(0);
    slow.socket.destroy();
    await client.abortsArrived(1);
  });
});

test("a socket that is not read for too long is cut, and others go on", async () => {
  const { url, client, errors } = listen({ streamTimes: { keepAlive: 0, slowReader: 0.1 } });
  client.info = { ...client.info, maxModelLen: 400_000, numBlocks: 100_000 };
  client.script = say("x".repeat(200_000));
  const slow = dial(url);
  await slow.connected;
  slow.socket.pause();
  const body = JSON.stringify({ messages: USER, stream: true });
  slow.socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await client.abortsArrived(1);
  expect(errors.map(({ code }) => code)).toEqual(["timeout"]);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  slow.socket.destroy();
}, 30_000);

test("headers of more than 16 KiB are refused, and the server goes on", async () => {
  const { url } = listen();
  const { socket, all, connected } = dial(url);
  await connected;
  socket.write(`GET /health HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(17_000)}\r\n\r\n`);
  expect(await all).toStartWith("HTTP/1.1 431");
  expect((await fetch(`${url}/health`)).status).toBe(200);
});

describe("bodies over sockets", () => {
  test("a declared length over the limit is refused before the body is sent", async () => {
    const { url } = listen();
    const { socket, all, connected } = dial(url);
    await connected;
    socket.write(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n",
    );
    const answer = await new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(data.toString("latin1"))),
    );
    expect(answer).toStartWith("HTTP/1.1 413");
    expect(answer).toContain("payload_too_large");
    socket.destroy();
    await all;
  });

  test("an undeclared length is refused at the limit", async () => {
    const { url } = listen({ bodyLimit: 100_000 });
    const { socket, all, connected } = dial(url);
    await connected;
    socket.write(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    const answer = new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(data.toString("latin1"))),
    );
    for (let i = 0; i < 20; i++) socket.write(`2710\r\n${" ".repeat(10_000)}\r\n`);
    expect(await answer).toStartWith("HTTP/1.1 413");
    socket.destroy();
    await all;
  });

  test("50 MB by fetch is a clear error and the server goes on", async () => {
    const { url } = listen();
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      body: new Uint8Array(50_000_000),
    });
    expect(await refusal(response)).toMatchObject({ status: 413, code: "payload_too_large" });
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  test("a body just under the limit is read", async () => {
    const { url } = listen();
    const prompt = "x".repeat(16 * 1024 * 1024 - 1000);
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt }),
    });
    expect(await refusal(response)).toMatchObject({ status: 400, code: "context_length_exceeded" });
  });

  test("a client that leaves in the middle of its body harms nobody", async () => {
    const { url, errors } = listen();
    const { socket, all, connected } = dial(url);
    await connected;
    socket.write(
      'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"pro',
    );
    // A second request in between: the server has seen the first one's headers when it answers.
    expect((await fetch(`${url}/health`)).status).toBe(200);
    socket.destroy();
    await all;
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect(errors).toEqual([]);
  });
});
