/** Spans of requests, as a collector on a real socket gets them. */

import { describe, expect, test } from "bun:test";
import { tracesAddress } from "../../../cli/tracing.ts";
import { OtlpTracing } from "../../../engine/server/tracing/otlp.ts";
import { say } from "../../support/fake-engine-client.ts";
import { OtlpCollector } from "../../support/otlp-collector.ts";
import { json, testApp, type TestApp, USER } from "./test-app.ts";

const PARENT = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT = `00-${PARENT}-00f067aa0ba902b7`;

interface Traced extends TestApp {
  readonly tracing: OtlpTracing;
  readonly lines: string[];
  readonly send: (body: object, headers?: Record<string, string>) => Promise<Response>;
}

function traced(endpoint: string, timeoutMs = 10_000): Traced {
  const lines: string[] = [];
  const onTrouble = (line: string): void => void lines.push(line);
  const tracing = new OtlpTracing({ endpoint, version: "1.2.3", timeoutMs, onTrouble });
  const app = testApp({ tracing, apiKeys: [{ name: "a", key: "secret-key" }] });
  const send = (body: object, headers: Record<string, string> = {}): Promise<Response> =>
    app.post(
      "/v1/chat/completions",
      { messages: USER, ...body },
      { authorization: "Bearer secret-key", ...headers },
    );
  return { ...app, tracing, lines, send };
}

const CLOSE_MS = 10_000;

describe("a span for each request", () => {
  test("has vLLM's name and attributes, and what was measured in seconds", async () => {
    await using collector = new OtlpCollector();
    const { client, tracing, send } = traced(collector.url);
    client.script = say("Hello", {
      cachedTokens: 3,
      timing: { queued: 1, prefill: 2, decode: 30 },
    });
    const body = { n: 2, temperature: 0.5, top_p: 0.9, max_tokens: 20 };
    const answer = await json(send(body, { "x-request-id": "r1" }));
    await (await send({ ...body, stream: true }, { "x-request-id": "r2" })).text();
    await tracing.close(CLOSE_MS);
    expect(collector.spans).toHaveLength(2);
    for (const [i, span] of collector.spans.entries()) {
      expect(span).toMatchObject({ name: "llm_request", kind: 2, parentSpanId: "", status: 0 });
      expect(span.resource).toMatchObject({
        "service.name": "kvengine",
        "service.version": "1.2.3",
        "telemetry.sdk.name": "opentelemetry",
      });
      const { attributes } = span;
      expect(attributes).toEqual({
        "gen_ai.request.id": `r${i + 1}`,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.n": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.num_sequences": 2,
        "gen_ai.usage.prompt_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.completion_tokens": answer.usage.completion_tokens,
        "kvengine.usage.cached_tokens": 3,
        "kvengine.outcome": "end",
        "gen_ai.latency.time_in_queue": 0.001,
        "gen_ai.latency.time_in_model_prefill": 0.002,
        "gen_ai.latency.time_in_model_decode": 0.03,
        "gen_ai.latency.time_in_model_inference": 0.032,
        "gen_ai.latency.time_to_first_token": expect.any(Number),
        "gen_ai.latency.e2e": expect.any(Number),
      });
      const e2e = Number(attributes["gen_ai.latency.e2e"]);
      expect(span.end - span.start).toBeCloseTo(e2e * 1000, 1);
      expect(Number(attributes["gen_ai.latency.time_to_first_token"])).toBeLessThanOrEqual(e2e);
    }
    expect(collector.headers[0]?.get("content-type")).toBe("application/x-protobuf");
    expect(tracing.counts).toEqual({ sent: 2, lost: 0 });
  });

  test("belongs to the trace of whoever asked, who may ask for none", async () => {
    await using collector = new OtlpCollector();
    const { tracing, send } = traced(collector.url);
    await send({}, { traceparent: `${TRACEPARENT}-01`, tracestate: "vendor=value" });
    await send({}, { traceparent: `${TRACEPARENT}-00` });
    await send({}, { traceparent: "no trace at all" });
    await tracing.close(CLOSE_MS);
    const [theirs, own] = collector.spans;
    expect(collector.spans).toHaveLength(2);
    expect(theirs).toMatchObject({
      traceId: PARENT,
      parentSpanId: "00f067aa0ba902b7",
      traceState: "vendor=value",
    });
    expect(own?.traceId).not.toBe(PARENT);
    expect(own?.parentSpanId).toBe("");
  });

  test("says how requests ended that did not come to their end", async () => {
    await using collector = new OtlpCollector();
    const { client, tracing, send } = traced(collector.url);
    client.script = undefined;
    const left = await send({ stream: true });
    await client.arrived(1);
    await left.body?.cancel();
    const failed = send({});
    const [, sequence] = await client.arrived(2);
    const error = { code: "internal", message: "the prompt secret-prompt broke a kernel" };
    const usage = { promptTokens: 1, completionTokens: 0, cachedTokens: 0 };
    const timing = { queued: 0, prefill: 0, decode: 0 };
    const finish = { reason: "error", error, usage, timing } as const;
    sequence?.send({ tokenIds: [], logprobs: [], finish });
    expect((await failed).status).toBe(500);
    await tracing.close(CLOSE_MS);
    const ends = collector.spans.map((one) => [one.attributes["kvengine.outcome"], one.status]);
    expect(ends).toEqual([["abort", 0], ["error", 2]]); // prettier-ignore
    expect(collector.bytes).not.toContain("secret-prompt");
  });

  test("also for a response that is written in the background", async () => {
    await using collector = new OtlpCollector();
    const { app, post, tracing } = traced(collector.url);
    const headers = { authorization: "Bearer secret-key" };
    const body = { input: "hi", background: true };
    const { id } = await json(post("/v1/responses", body, headers));
    expect(id).toStartWith("resp_");
    const status = async (): Promise<string> =>
      (await json(app.request(`/v1/responses/${id}`, { headers }))).status;
    while ((await status()) === "in_progress")
      await new Promise((resolve) => setImmediate(resolve));
    await tracing.close(CLOSE_MS);
    expect(collector.spans).toHaveLength(1);
  });

  test("holds no word of prompts and answers, and no key", async () => {
    await using collector = new OtlpCollector();
    const { client, tracing, send } = traced(collector.url);
    client.script = say("the secret answer");
    const messages = [{ role: "user", content: "a secret question" }];
    await send({ messages, user: "secret-user", cache_salt: "secret-salt" });
    await tracing.close(CLOSE_MS);
    expect(collector.spans).toHaveLength(1);
    expect(collector.bytes).toContain("llm_request");
    expect(collector.bytes).not.toContain("secret");
  });
});

describe("a collector", () => {
  test("that is not there costs one line and the spans, and no request waits for it", async () => {
    await using gone = new OtlpCollector();
    await gone[Symbol.asyncDispose]();
    const { app, tracing, lines, send } = traced(gone.url, 100);
    for (let i = 0; i < 3; i++) expect((await send({})).status).toBe(200);
    expect(tracing.counts).toEqual({ sent: 0, lost: 0 });
    await tracing.close(CLOSE_MS);
    expect(tracing.counts).toEqual({ sent: 0, lost: 3 });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(gone.url);
    const metrics = await (await app.request("/metrics")).text();
    expect(metrics).toMatch(/kvengine:trace_spans_lost_total\{[^}]*\} 3/);
    expect(metrics).toMatch(/kvengine:trace_spans_sent_total\{[^}]*\} 0/);
  });

  test("that never answers: what waits for it is bounded, and the end does not wait for ever", async () => {
    await using collector = new OtlpCollector(() => new Promise<Response>(() => {}));
    const { tracing, send } = traced(collector.url);
    expect((await send({})).status).toBe(200);
    const request = {
      ...{ requestId: "r", model: "m", traceparent: undefined, tracestate: undefined },
      ...{ n: 1, numSequences: 1, maxTokens: 1, temperature: 1, topP: 1, outcome: "end" as const },
      usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
      ...{ timing: undefined, firstTokenAt: undefined, arrivedAt: 1000, endedAt: 2000 },
    };
    for (let i = 0; i < 3000; i++) tracing.trace(request);
    expect(tracing.counts.lost).toBe(3001 - 2048);
    await tracing.close(1);
    expect(tracing.counts).toEqual({ sent: 0, lost: 3001 });
  });

  test("that refuses is named with its reason, once", async () => {
    await using collector = new OtlpCollector(() => new Response("no", { status: 401 }));
    const { tracing, lines, send } = traced(collector.url);
    await send({});
    await tracing.close(CLOSE_MS);
    expect(tracing.counts).toEqual({ sent: 0, lost: 1 });
    expect(lines).toEqual([expect.stringMatching(/takes no traces \(.+\)/)]);
  });
});

describe("the address of a collector", () => {
  test("has a path of its own, or OTLP's", () => {
    expect(tracesAddress("http://localhost:4318")).toBe("http://localhost:4318/v1/traces");
    expect(tracesAddress("https://c.example/otlp")).toBe("https://c.example/otlp");
  });

  test.each(["grpc://localhost:4317", "http://localhost:4317", "localhost:4318", "nothing"])(
    "is not %s",
    (text) => {
      expect(() => tracesAddress(text)).toThrow("is no address of OTLP by HTTP");
    },
  );

  test("holds no credentials, which would be shown", () => {
    const address = "http://me:secret@localhost:4318";
    expect(() => tracesAddress(address)).toThrow("holds a name or a password");
    expect(() => tracesAddress(address)).not.toThrow("secret");
  });
});
