import { describe, expect, test } from "bun:test";
import { apiKeys } from "../../support/api-keys.ts";
import { say } from "../../support/fake-engine-client.ts";
import { json, refusal, roomy, testApp, type TestApp } from "./test-app.ts";

const THINKING = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}<think></think>";
const CALLS = `${THINKING}<tool_call>{{ tools }}`;
const TOOLS = [{ type: "function", name: "f", parameters: { type: "object" } }];
const CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>';

function create(test: TestApp, body: object, key?: string): Promise<Response> {
  const headers: Record<string, string> =
    key === undefined ? {} : { authorization: `Bearer ${key}` };
  return test.post("/v1/responses", { input: "hi", ...body }, headers);
}

/** The events of a stream, each with the name that its `event:` line gives. */
// oxlint-disable-next-line typescript/no-explicit-any -- events of many shapes
async function eventsOf(response: Promise<Response>): Promise<any[]> {
  const frames = (await (await response).text()).split("\n\n").filter((frame) => frame !== "");
  return frames.map((frame) => {
    const [, name, data] = /^event: (\S+)\ndata: (.*)$/s.exec(frame) ?? [];
    const event = JSON.parse(data ?? "null");
    expect(event.type).toBe(name);
    return event;
  });
}

/** Without what is drawn anew each time. */
function plain(value: unknown): unknown {
  const text = JSON.stringify(value, (key, one: unknown) =>
    ["id", "call_id", "created_at", "completed_at"].includes(key) ? undefined : one,
  );
  return JSON.parse(text);
}

describe("POST /v1/responses", () => {
  test("answers with reasoning, text and calls as items", async () => {
    const test = roomy({ chatTemplate: CALLS });
    test.client.script = say(`<think>Well.</think>Yes.\n${CALL}`);
    const answer = await json(create(test, { tools: TOOLS }));
    expect(answer).toMatchObject({ object: "response", status: "completed", model: "tiny" });
    expect(plain(answer.output)).toEqual([
      {
        type: "reasoning",
        summary: [],
        content: [{ type: "reasoning_text", text: "Well." }],
        status: "completed",
      },
      {
        type: "message",
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: "Yes.", annotations: [], logprobs: [] }],
      },
      { type: "function_call", name: "f", arguments: '{"a": 1}', status: "completed" },
    ]);
    expect(answer.usage.output_tokens_details.reasoning_tokens).toBe("<think>Well.</think>".length);
  });

  test("streams events from which the same response can be put together", async () => {
    const test = roomy({ chatTemplate: CALLS });
    test.client.script = say(`<think>Well.</think>Yes.\n${CALL}`);
    const whole = await json(create(test, { tools: TOOLS, seed: 1 }));
    const events = await eventsOf(create(test, { tools: TOOLS, seed: 1, stream: true }));
    expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, i) => i));
    expect(events[0].type).toBe("response.created");
    expect(events.at(-1).type).toBe("response.completed");
    expect(plain(events.at(-1).response)).toEqual(plain(whole));
    const joined = (type: string): string =>
      events
        .filter((event) => event.type === type)
        .map(({ delta }) => delta)
        .join("");
    expect(joined("response.reasoning_text.delta")).toBe("Well.");
    expect(joined("response.output_text.delta")).toBe("Yes.");
    expect(joined("response.function_call_arguments.delta")).toBe('{"a": 1}');
    const done = events.filter(({ type }) => type === "response.output_item.done");
    expect(plain(done.map(({ item }) => item))).toEqual(plain(whole.output));
  });

  test("an answer that max_output_tokens ends is incomplete", async () => {
    const test = testApp();
    const answer = await json(create(test, { max_output_tokens: 2 }));
    expect(answer).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      max_output_tokens: 2,
    });
    const events = await eventsOf(create(test, { max_output_tokens: 2, stream: true }));
    expect(events.at(-1).type).toBe("response.incomplete");
  });

  test("an engine's error ends the stream with response.failed", async () => {
    const test = testApp();
    test.client.script = (request) => {
      const finish = say("")(request)[0]?.finish;
      if (finish === undefined) throw new Error("no end");
      const error = { code: "out_of_memory", message: "no memory" };
      return [{ tokenIds: [], logprobs: [], finish: { ...finish, reason: "error", error } }];
    };
    const events = await eventsOf(create(test, { stream: true }));
    expect(events.at(-1)).toMatchObject({
      type: "response.failed",
      response: { status: "failed", error: { code: "server_error", message: "no memory" } },
    });
  });

  test("items and instructions reach the template as messages", async () => {
    const test = testApp();
    const input = [
      { role: "user", content: [{ type: "input_text", text: "a" }] },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "b" }] },
      { type: "function_call", call_id: "c1", name: "f", arguments: '{"x": 1}' },
      { type: "function_call_output", call_id: "c1", output: "d" },
    ];
    await create(test, { input, instructions: "e" });
    const prompt = test.client.sequences[0]?.request.promptTokenIds ?? [];
    expect(new TextDecoder().decode(Uint8Array.from(prompt))).toBe(
      '[system]e[user]a[assistant]b\n<tool_call>\n{"name":"f","arguments":{"x":1}}\n</tool_call>[tool]d[assistant]',
    );
  });

  const wrong: readonly (readonly [body: object, param: string])[] = [
    [{ input: undefined }, "input"],
    [{ input: [] }, "input"],
    [{ input: [5] }, "input[0]"],
    [{ input: [{ type: "item_reference", id: "x" }] }, "input[0].type"],
    [{ input: [{ role: "user" }] }, "input[0].content"],
    [{ input: [{ role: "user", content: "a", extra: 1 }] }, "input[0].extra"],
    [
      { input: [{ type: "function_call", call_id: "c", name: "f", arguments: "[" }] },
      "input[0].arguments",
    ],
    [{ n: 2 }, "n"],
    [{ max_tokens: 2 }, "max_tokens"],
    [{ max_output_tokens: 0 }, "max_output_tokens"],
    [{ max_output_tokens: 1000 }, "max_output_tokens"],
    [{ text: { format: { type: "xml" } } }, "text.format.type"],
    [{ tools: [{ type: "web_search" }] }, "tools[0].type"],
    [{ tool_choice: "required" }, "tool_choice"],
    [{ background: true, store: false }, "background"],
    [{ background: true, stream: true }, "background"],
    [{ previous_response_id: "resp_x" }, "previous_response_id"],
    [{ conversation: "c" }, "conversation"],
    [{ top_logprobs: 2 }, "top_logprobs"],
    [{ include: ["x"] }, "include[0]"],
    [{ metadata: { a: 1 } }, "metadata.a"],
    [{ truncation: "auto" }, "truncation"],
  ];
  test.each(wrong)("%j names %s", async (body, param) => {
    const test = testApp();
    expect(await refusal(create(test, body))).toMatchObject({ status: 400, param });
    expect(test.client.sequences).toHaveLength(0);
  });
});

describe("stored responses", () => {
  test("can be asked for, gone on from and forgotten", async () => {
    const test = testApp();
    const first = await json(create(test, { instructions: "x" }));
    expect(await json(test.app.request(`/v1/responses/${first.id}`))).toEqual(first);
    const second = await json(create(test, { input: "more", previous_response_id: first.id }));
    expect(second.previous_response_id).toBe(first.id);
    const prompt = test.client.sequences[1]?.request.promptTokenIds ?? [];
    // Instructions are of one response.
    expect(new TextDecoder().decode(Uint8Array.from(prompt))).toBe(
      "[user]hi[assistant]Hello[user]more[assistant]",
    );
    const items = await json(test.app.request(`/v1/responses/${second.id}/input_items`));
    // oxlint-disable-next-line typescript/no-explicit-any -- items of several shapes
    expect(items.data.map((item: any) => item.content[0].text)).toEqual(["hi", "Hello", "more"]);
    const path = `/v1/responses/${first.id}`;
    expect(await json(test.app.request(path, { method: "DELETE" }))).toMatchObject({
      deleted: true,
    });
    expect(await refusal(test.app.request(path))).toMatchObject({
      status: 404,
      param: "response_id",
    });
  });

  test("are none where store is false", async () => {
    const test = testApp();
    const { id } = await json(create(test, { store: false }));
    expect((await test.app.request(`/v1/responses/${id}`)).status).toBe(404);
  });

  test("belong to the key that asked for them", async () => {
    const test = testApp({ apiKeys: apiKeys("one", "two") });
    const { id } = await json(create(test, {}, "one"));
    const get = async (key: string): Promise<number> => {
      const headers = { authorization: `Bearer ${key}` };
      return (await test.app.request(`/v1/responses/${id}`, { headers })).status;
    };
    expect([await get("one"), await get("two")]).toEqual([200, 404]);
    expect(await refusal(create(test, { previous_response_id: id }, "two"))).toMatchObject({
      param: "previous_response_id",
    });
  });

  test("are as many as allowed: the oldest go", async () => {
    const test = testApp({ maxStoredResponses: 2 });
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.push((await json(create(test, {}))).id);
    const statuses = await Promise.all(ids.map((id) => test.app.request(`/v1/responses/${id}`)));
    expect(statuses.map(({ status }) => status)).toEqual([404, 200, 200]);
  });

  test("in the background are written on, and can be cancelled", async () => {
    const test = testApp({ maxStoredResponses: 1 });
    test.client.script = undefined;
    const { id, status } = await json(create(test, { background: true }));
    expect(status).toBe("in_progress");
    expect(await refusal(create(test, { background: true }))).toMatchObject({ status: 429 });
    const [sequence] = await test.client.arrived(1);
    sequence?.sendText("par");
    const cancel = `/v1/responses/${id}/cancel`;
    expect(await json(test.app.request(cancel, { method: "POST" }))).toMatchObject({
      status: "cancelled",
    });
    expect(sequence?.returned).toBe(true);
    // Once more changes nothing.
    expect(await json(test.app.request(cancel, { method: "POST" }))).toMatchObject({
      status: "cancelled",
    });
  });

  test("of clients that have gone are none, and take no place", async () => {
    const test = testApp({ maxStoredResponses: 1 });
    test.client.script = undefined;
    const leave = new AbortController();
    const answer = test.app.request("/v1/responses", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ input: "hi" }),
      signal: leave.signal,
    });
    await test.client.arrived(1);
    leave.abort();
    await test.client.abortsArrived(1);
    await answer;
    expect((await create(test, { background: true })).status).toBe(200);
  });

  test("that were not in the background cannot be cancelled", async () => {
    const test = testApp();
    const { id } = await json(create(test, {}));
    const answer = test.app.request(`/v1/responses/${id}/cancel`, { method: "POST" });
    expect(await refusal(answer)).toMatchObject({ status: 400, param: "response_id" });
  });
});
