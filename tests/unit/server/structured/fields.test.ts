/** What the fields of structured output ask the engine for, and how they are refused. */

import { describe, expect, test } from "bun:test";
import { KvEngineError } from "../../../../engine/errors.ts";
import { json, refusal, testApp, roomy, USER } from "../test-app.ts";

const schema = { type: "object", properties: { a: { type: "integer" } } };
const asked = (of: object): object => ({
  ...of,
  "x-guidance": { whitespace_flexible: false, item_separator: ", ", key_separator: ": " },
});
const start = (rule: string): string[] => [`start: ${rule}`];
const ofJson = (of: object): string[] => start(`%json ${JSON.stringify(asked(of))}`);
const format = (type: string, rest: object = {}): object => ({
  response_format: { type, ...rest },
});
const bySchema = format("json_schema", { json_schema: { name: "x", schema, strict: true } });

describe("chats and completions", () => {
  test.each([
    [format("text"), []],
    [format("json_object"), ofJson({ type: "object" })],
    [bySchema, ofJson(schema)],
    [{ structured_outputs: { json: schema } }, ofJson(schema)],
    [
      { structured_outputs: { json: JSON.stringify(schema), disable_fallback: true } },
      ofJson(schema),
    ],
    [{ structured_outputs: { json_object: true, regex: null } }, ofJson({ type: "object" })],
    [{ structured_outputs: { regex: "^a/\\/[0-9]+\\n$" } }, start("/a\\/\\/[0-9]+\\n/")],
    [{ structured_outputs: { choice: ["yes", 'n"o\n', "yes"] } }, start('"yes" | "n\\"o\\n"')],
    [{ structured_outputs: { grammar: 'start: "a"' } }, start('%lark { start: "a"\n}')],
    [
      { structured_outputs: { grammar: 'root ::= "a"' } },
      start('%lark { start: r_root\nr_root: "a"\n}'),
    ],
  ])("%j", async (fields, grammars) => {
    for (const endpoint of ["chat", "complete"] as const) {
      const test = testApp();
      const answer = await test[endpoint](fields);
      expect(answer.status).toBe(200);
      expect(test.client.grammars.map(({ text }) => text)).toEqual(grammars);
      expect(test.client.sequences[0]?.request.grammar?.key).toBe(grammars[0]);
    }
  });

  test("all choices of a request follow it", async () => {
    const test = testApp();
    await test.chat({ ...bySchema, n: 3 });
    expect(test.client.grammars).toHaveLength(1);
    expect(test.client.sequences.map(({ request }) => request.grammar?.key)).toEqual(
      Array.from({ length: 3 }, () => ofJson(schema)[0]),
    );
  });

  test.each([
    [format("json_schema"), "response_format.json_schema"],
    [format("json_object", { json_schema: { name: "x" } }), "response_format.json_schema"],
    [format("xml"), "response_format.type"],
    [format("json_schema", { json_schema: { schema } }), "response_format.json_schema.name"],
    [
      format("json_schema", { json_schema: { name: "x", schema: [] } }),
      "response_format.json_schema.schema",
    ],
    [
      format("json_schema", { json_schema: { name: "x", schema: { title: "a".repeat(300_000) } } }),
      "response_format.json_schema.schema",
    ],
    [{ structured_outputs: {} }, "structured_outputs"],
    [{ structured_outputs: { json_object: false } }, "structured_outputs"],
    [{ structured_outputs: { regex: "a", choice: ["b"] } }, "structured_outputs"],
    [{ structured_outputs: { regex: "" } }, "structured_outputs.regex"],
    [{ structured_outputs: { regex: "a".repeat(262_145) } }, "structured_outputs.regex"],
    [{ structured_outputs: { choice: [] } }, "structured_outputs.choice"],
    [{ structured_outputs: { json: "[1]" } }, "structured_outputs.json"],
    [{ structured_outputs: { json: 5 } }, "structured_outputs.json"],
    [{ structured_outputs: { grammar: "root ::= (" } }, "structured_outputs.grammar"],
    [{ structured_outputs: { structural_tag: "a" } }, "structured_outputs.structural_tag"],
    [{ ...bySchema, structured_outputs: { regex: "a" } }, "structured_outputs"],
    [{ ...bySchema, ignore_eos: true }, "ignore_eos"],
  ])("%j is refused by its name", async (fields, param) => {
    for (const endpoint of ["chat", "complete"] as const) {
      const test = testApp();
      expect(await refusal(test[endpoint](fields))).toMatchObject({ status: 400, param });
      expect(test.client.grammars.length + test.client.sequences.length).toBe(0);
    }
  });

  test.each([
    ["guided_json", "structured_outputs.json"],
    ["guided_regex", "structured_outputs.regex"],
    ["guided_choice", "structured_outputs.choice"],
    ["guided_grammar", "structured_outputs.grammar"],
    ["grammar", "structured_outputs.grammar"],
    ["json_schema", "structured_outputs.json"],
  ])("the older name %s is refused with the one of now", async (name, instead) => {
    const { status, param, message } = await refusal(testApp().chat({ [name]: "x" }));
    expect([status, param]).toEqual([400, name]);
    expect(message).toContain(instead);
    expect((await testApp().chat({ [name]: null })).status).toBe(200);
  });

  test("what cannot be followed is a 400 of the field, and other failures are what they are", async () => {
    const test = testApp();
    test.client.grammarError = new KvEngineError("invalid_request", "not is not supported");
    expect(await refusal(test.chat(bySchema))).toMatchObject({
      status: 400,
      param: "response_format.json_schema.schema",
      message: "response_format.json_schema.schema cannot be followed: not is not supported",
    });
    test.client.grammarError = new KvEngineError("unavailable", "4 grammars are being compiled");
    expect(await refusal(test.chat(bySchema))).toMatchObject({ status: 503 });
    expect(test.client.sequences).toHaveLength(0);
  });

  test("what is only roughly kept stands in the header", async () => {
    const test = testApp();
    test.client.grammarWarnings = ["oneOf"];
    const answer = await test.chat(bySchema);
    expect(answer.headers.get("x-kvengine-warnings")).toBe(
      "ignored: response_format.json_schema.schema: oneOf",
    );
  });
});

describe("responses", () => {
  const create = (body: object): { test: ReturnType<typeof roomy>; answer: Promise<Response> } => {
    const test = roomy();
    return { test, answer: test.post("/v1/responses", { input: "hi", ...body }) };
  };

  test.each([
    [{ text: { format: { type: "json_object" } } }, ofJson({ type: "object" })],
    [
      { text: { format: { type: "json_schema", name: "x", schema, strict: true } } },
      ofJson(schema),
    ],
    [{ structured_outputs: { regex: "a" } }, start("/a/")],
  ])("%j", async (body, grammars) => {
    const { test, answer } = create(body);
    expect((await answer).status).toBe(200);
    expect(test.client.grammars.map(({ text }) => text)).toEqual(grammars);
  });

  test.each([
    [{ text: { format: { type: "json_schema", name: "x" } } }, "text.format.schema"],
    [
      { text: { format: { type: "json_object" } }, structured_outputs: { regex: "a" } },
      "structured_outputs",
    ],
    [{ response_format: { type: "json_object" } }, "response_format"],
  ])("%j is refused by its name", async (body, param) => {
    expect(await refusal(create(body).answer)).toMatchObject({ status: 400, param });
  });
});

describe("calls", () => {
  const tool = (name: string, more: object = {}): object => ({
    type: "function",
    function: {
      name,
      parameters: { properties: { a: { type: "integer" }, b: {} }, required: ["a"] },
      ...more,
    },
  });
  const tools = [tool("f"), tool("g")];
  const named = { type: "function", function: { name: "g" } };
  const grammarOf = async (
    toolCallParser: string,
    body: object,
    chatTemplate?: string,
  ): Promise<string[]> => {
    const test = roomy({ toolCallParser, ...(chatTemplate === undefined ? {} : { chatTemplate }) });
    const answer = await test.chat({ tools, ...body });
    if (answer.status !== 200) throw new Error(await answer.text());
    return test.client.grammars.flatMap(({ text }) => text.split("\n"));
  };
  const args = `%json ${JSON.stringify(asked({ type: "object", properties: { a: { type: "integer" }, b: {} }, required: ["a"] }))}`;

  test("nothing is asked of an answer that may call or not", async () => {
    expect(await grammarOf("hermes", { tool_choice: "auto" })).toEqual([]);
    expect(await grammarOf("hermes", { tool_choice: "none" })).toEqual([]);
  });

  test("one of all, or the one that is named, in the family's form", async () => {
    expect(await grammarOf("hermes", { tool_choice: "required" })).toEqual([
      'start: "<tool_call>\\n" call ("\\n</tool_call>\\n<tool_call>\\n" call)* "\\n</tool_call>"',
      `call_0: "{\\"name\\": \\"f\\", \\"arguments\\": " ${args} "}"`,
      `call_1: "{\\"name\\": \\"g\\", \\"arguments\\": " ${args} "}"`,
      "call: call_0 | call_1",
    ]);
    expect(
      await grammarOf("llama3_json", { tool_choice: named, parallel_tool_calls: false }),
    ).toEqual([
      "start: call",
      `call_0: "{\\"name\\": \\"g\\", \\"parameters\\": " ${args} "}"`,
      "call: call_0",
    ]);
    expect((await grammarOf("mistral", { tool_choice: named }))[0]).toBe(
      'start: "[TOOL_CALLS][" call (", " call)* "]"',
    );
    expect(
      await grammarOf(
        "mistral",
        { tool_choice: named },
        "{{ messages[0].content }}{# [TOOL_CALLS] [ARGS] tools #}",
      ),
    ).toEqual([
      'start: "[TOOL_CALLS]" call ("[TOOL_CALLS]" call)*',
      `call_0: "g[ARGS]" ${args}`,
      "call: call_0",
    ]);
    expect(await grammarOf("pythonic", { tool_choice: named })).toEqual([
      'start: "[" call (", " call)* "]"',
      `call_0_p0: "a=" %json ${JSON.stringify(asked({ type: "integer" }))}`,
      `call_0_p1: "b=" %json ${JSON.stringify(asked({}))}`,
      'call_0: "g(" call_0_p0 (", " call_0_p1)? ")"',
      "call: call_0",
    ]);
  });

  test("a strict tool binds the calls of an answer that may call or not", async () => {
    const [first, ...rest] = await grammarOf("hermes", {
      tools: [tool("f", { strict: true })],
    });
    expect(rest).toContain(`call_0: "{\\"name\\": \\"f\\", \\"arguments\\": " ${args} "}"`);
    expect(first).toBe(
      'start: FREE | lead "\\n" call ("\\n</tool_call>\\n<tool_call>\\n" call)* "\\n</tool_call>"',
    );
    expect(rest).toContain("FREE: /(?s:.*)/ & ~/(?s:.*)\\x{3c}tool_call\\x{3e}(?s:.*)/");
    expect(rest).toContain('lead[suffix="<tool_call>"]: /(?s:.*)/');
  });

  test("beside a form for the text, an answer is that or calls", async () => {
    const [first, ...rest] = await grammarOf("hermes", bySchema);
    expect(first).toStartWith('start: answer | "<tool_call>\\n" call');
    expect(rest).toContain(`answer: ${ofJson(schema)[0]?.slice("start: ".length)}`);
  });

  test("reasoning comes before", async () => {
    const opened = "{{ messages[0].content }}{# <think> #}";
    expect(await grammarOf("json", { tools: [], ...bySchema }, opened)).toEqual([
      'start: ("<think>" thoughts ("\\n" "\\n"?)?)? body',
      'thoughts[suffix="</think>"]: /(?s:.*)/',
      `body: ${ofJson(schema)[0]?.slice("start: ".length)}`,
    ]);
    const inside = "{{ messages[0].content }}<think>";
    expect((await grammarOf("json", { tools: [], ...bySchema }, inside))[0]).toBe(
      'start: thoughts ("\\n" "\\n"?)? body',
    );
  });

  test.each([
    [{ tools: undefined, tool_choice: "required" }, "tool_choice"],
    [{ tool_choice: { type: "function", function: { name: "h" } } }, "tool_choice"],
    [{ ...bySchema, tool_choice: "required" }, "response_format.json_schema.schema"],
  ])("%j is refused by its name", async (body, param) => {
    expect(await refusal(roomy().chat({ tools, ...body }))).toMatchObject({ status: 400, param });
  });

  test("arguments by name cannot be held to what is said of them together", async () => {
    const parameters = { type: "object", properties: {}, minProperties: 1 };
    const body = { messages: USER, tools: [tool("f", { parameters })], tool_choice: "required" };
    expect(await refusal(roomy({ toolCallParser: "pythonic" }).chat(body))).toMatchObject({
      status: 400,
      param: "tools[0].function.parameters.minProperties",
    });
  });

  test("a response names its tool in OpenAI's other form", async () => {
    const test = roomy({ toolCallParser: "hermes" });
    const body = {
      input: "hi",
      tools: [{ type: "function", name: "f", parameters: {}, strict: true }],
      tool_choice: { type: "function", name: "f" },
    };
    const answer = await json(test.post("/v1/responses", body));
    expect(answer.tool_choice).toEqual({ type: "function", name: "f" });
    expect(test.client.grammars[0]?.text).toContain('"name');
  });
});
