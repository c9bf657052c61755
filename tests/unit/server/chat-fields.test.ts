import { describe, expect, test } from "bun:test";
import { say } from "../../support/fake-engine-client.ts";
import { events, json, refusal, TEMPLATE, roomy, testApp, type TestApp, USER } from "./test-app.ts";

function promptOf({ client }: TestApp): string {
  const { promptTokenIds = [] } = client.sequences.at(-1)?.request ?? {};
  return new TextDecoder().decode(Uint8Array.from(promptTokenIds));
}

const TOOLS = [
  { type: "function", function: { name: "f", description: "d", parameters: { a: 1 } } },
];

describe("what the template gets", () => {
  test("a last message that goes on", async () => {
    const test = testApp({
      chatTemplate: "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}",
    });
    const messages = [...USER, { role: "assistant", content: "The answer is " }];
    await test.chat({ messages, continue_final_message: true });
    expect(promptOf(test)).toBe("[user]hi<end>[assistant]The answer is ");
    const both = { messages, continue_final_message: true, add_generation_prompt: true };
    expect(await refusal(test.chat(both))).toMatchObject({ param: "add_generation_prompt" });
    const empty = { messages: [{ role: "assistant", content: "" }], continue_final_message: true };
    expect(await refusal(test.chat(empty))).toMatchObject({ param: "messages[0].content" });
  });

  test("no generation prompt where none is wanted", async () => {
    const chatTemplate =
      "{{ messages[0].content }}{% if add_generation_prompt %}[assistant]{% endif %}";
    const test = testApp({ chatTemplate });
    await test.chat({ add_generation_prompt: false });
    expect(promptOf(test)).toBe("hi");
  });

  test("variables; those that it does not read are reported", async () => {
    const test = testApp({ chatTemplate: `{{ style }}${TEMPLATE}` });
    const response = await test.chat({ chat_template_kwargs: { style: "s", other: 1 } });
    expect(promptOf(test)).toBe("s[user]hi[assistant]");
    expect(response.headers.get("x-kvengine-warnings")).toBe("ignored: chat_template_kwargs.other");
    expect(await refusal(test.chat({ chat_template_kwargs: { messages: [] } }))).toMatchObject({
      param: "chat_template_kwargs.messages",
    });
  });

  test("reasoning_effort, under the name that it knows", async () => {
    const effort = testApp({ chatTemplate: `{{ reasoning_effort }}${TEMPLATE}` });
    await effort.chat({ reasoning_effort: "high" });
    expect(promptOf(effort)).toStartWith("high");
    const flag = testApp({
      chatTemplate: `{% if enable_thinking %}on{% else %}off{% endif %}${TEMPLATE}`,
    });
    await flag.chat({ reasoning_effort: "none" });
    expect(promptOf(flag)).toStartWith("off");
    await flag.chat({ reasoning_effort: "low" });
    expect(promptOf(flag)).toStartWith("on");
    const none = await testApp().chat({ reasoning_effort: "low" });
    expect(none.headers.get("x-kvengine-warnings")).toBe("ignored: reasoning_effort");
    expect(await refusal(testApp().chat({ reasoning_effort: "much" }))).toMatchObject({
      param: "reasoning_effort",
    });
  });

  test("tools and earlier calls, with arguments as an object", async () => {
    const test = testApp({
      chatTemplate:
        "{{ tools | tojson }}{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments.x }}{% endfor %}{{ m.tool_call_id }}{% endfor %}",
    });
    const call = { id: "c1", type: "function", function: { name: "f", arguments: '{"x": 5}' } };
    const messages = [
      ...USER,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "c1", content: "r" },
    ];
    await test.chat({ messages, tools: TOOLS });
    expect(promptOf(test)).toContain('"name": "f"');
    expect(promptOf(test)).toEndWith("5c1");
  });

  test("tools in words where it knows none", async () => {
    const test = roomy();
    await test.chat({ tools: TOOLS });
    expect(promptOf(test)).toStartWith("[system]You may call");
    await test.chat({ tools: TOOLS, tool_choice: "none" });
    expect(promptOf(test)).toBe("[user]hi[assistant]");
    await test.chat({ tools: TOOLS, messages: [{ role: "system", content: "s" }, ...USER] });
    expect(promptOf(test)).toStartWith("[system]s\n\nYou may call");
  });

  test.each([
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools[0].function.name"],
    [{ tools: [...TOOLS, ...TOOLS] }, "tools[1]"],
    [{ tools: [{ type: "function", function: { name: "f", parmeters: {} } }] }, "tools[0].function.parmeters"],
    [{ tool_choice: "required" }, "tool_choice"],
    [{ tools: TOOLS, tool_choice: { type: "function", function: { name: "h" } } }, "tool_choice"],
    [{ messages: [{ role: "user", content: "a", tool_calls: [{ function: { name: "f", arguments: "{}" } }] }] }, "messages[0].tool_calls"],
    [{ messages: [{ role: "assistant", tool_calls: [{ function: { name: "f", arguments: "[1]" } }] }] }, "messages[0].tool_calls[0].function.arguments"],
  ])("%j names %s", async (body, param) => {
    expect(await refusal(testApp().chat(body))).toMatchObject({ status: 400, param });
  }); // prettier-ignore
});

describe("what is answered", () => {
  const said =
    '<think>Well.</think>Yes. <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>';
  const thinking = (): TestApp => {
    const test = roomy({ chatTemplate: `${TEMPLATE}{# <think> <tool_call> tools #}` });
    test.client.script = say(said);
    return test;
  };

  test("reasoning, content and calls apart, and the same in a stream", async () => {
    const { chat } = thinking();
    const answer = await json(chat({ tools: TOOLS }));
    const [{ message, finish_reason: finish }] = answer.choices;
    expect(message).toMatchObject({
      content: "Yes.",
      reasoning: "Well.",
      reasoning_content: "Well.",
      tool_calls: [{ type: "function", function: { name: "f", arguments: '{"x": 1}' } }],
    });
    expect(finish).toBe("tool_calls");
    expect(answer.usage.completion_tokens_details.reasoning_tokens).toBe(
      "<think>Well.</think>".length,
    );

    let [content, reasoning, args, last] = ["", "", "", ""];
    for (const event of await events(chat({ tools: TOOLS, stream: true }))) {
      if (event === "[DONE]") continue;
      const [choice] = JSON.parse(event).choices;
      content += choice.delta.content ?? "";
      reasoning += choice.delta.reasoning_content ?? "";
      args += choice.delta.tool_calls?.[0].function.arguments ?? "";
      last = choice.finish_reason ?? last;
    }
    expect([content, reasoning, args, last]).toEqual(["Yes.", "Well.", '{"x": 1}', "tool_calls"]);
  });

  test("without tools a call is text; without include_reasoning there is none", async () => {
    const { chat } = thinking();
    const [{ message, finish_reason: finish }] = (await json(chat({ include_reasoning: false })))
      .choices;
    expect(message).toEqual({
      role: "assistant",
      content: said.slice(said.indexOf("Yes")),
      refusal: null,
    });
    expect(finish).toBe("stop");
  });

  test("a call alone has no content", async () => {
    const test = thinking();
    test.client.script = say('<tool_call>{"name": "f"}</tool_call>');
    expect((await json(test.chat({ tools: TOOLS }))).choices[0].message.content).toBeNull();
  });

  test("token ids and times, where they are asked for", async () => {
    const { chat, complete, client } = testApp();
    client.script = say("Hi", { timing: { queued: 1, prefill: 2.5, decode: 3 } });
    const fields = { return_token_ids: true, return_timing: true };
    const timing = { queue_ms: 1, prefill_ms: 2.5, decode_ms: 3 };
    const response = await chat(fields);
    expect(response.headers.get("x-kvengine-timing")).toBe(
      "queue;dur=1, prefill;dur=2.5, decode;dur=3",
    );
    const answer = await json(response);
    expect(answer.timing).toEqual(timing);
    expect(answer.prompt_token_ids).toEqual([...new TextEncoder().encode("[user]hi[assistant]")]);
    expect(answer.choices[0].token_ids).toEqual([72, 105]);
    const completion = await json(complete(fields));
    expect(completion.choices[0]).toMatchObject({
      prompt_token_ids: [104, 105],
      token_ids: [72, 105],
    });
    const chunks = await events(complete({ ...fields, stream: true }));
    expect(JSON.parse(chunks.at(-2) ?? "").timing).toEqual(timing);
    const ids = chunks.slice(0, -2).flatMap((chunk) => JSON.parse(chunk).choices[0].token_ids);
    expect(ids).toEqual([72, 105]);
  });

  test("usage at the end of every stream, where the server is told so", async () => {
    const chunks = await events(testApp({ forceUsage: true }).chat({ stream: true }));
    expect(JSON.parse(chunks.at(-2) ?? "").usage.completion_tokens).toBe(6);
  });
});
