import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { OPTIONS } from "../../../../engine/config.ts";
import {
  CALL_FORMATS,
  callFormatNamed,
  callFormatOf,
} from "../../../../engine/server/message/call-formats.ts";
import { Message } from "../../../../engine/server/message/message.ts";
import {
  type MessageForm,
  MessageReader,
} from "../../../../engine/server/message/message-reader.ts";
import {
  endsInReasoning,
  REASONING_FORMATS,
  reasoningFormatNamed,
  reasoningFormatOf,
} from "../../../../engine/server/message/reasoning.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../../support/property-runs.ts";

const THINK = reasoningFormatNamed("think");
const TOOLS = new Set(["get_weather", "add"]);

/** A message read in these pieces; ids of calls are random and left out. */
function read(form: MessageForm, texts: readonly string[]): object {
  const reader = new MessageReader(form);
  const message = new Message();
  for (const text of texts) message.add(reader.push(text, 1));
  message.add(reader.end());
  const { content, reasoning, calls } = message;
  return { content, reasoning, calls: calls.map(({ name, args }) => [name, args]) };
}

function calls(format: string, parallel = true): MessageForm {
  return { calls: { format: callFormatNamed(format), tools: TOOLS, parallel } };
}

describe("reasoning", () => {
  const inside = { reasoning: { format: THINK, isInside: true } };
  const outside = { reasoning: { format: THINK, isInside: false } };
  const cases: readonly (readonly [
    MessageForm,
    text: string,
    reasoning: string,
    content: string,
  ])[] = [
    [outside, "<think>\nWell.\n</think>\n\nYes.", "Well.", "Yes."],
    [outside, "\n<think>a</think>b", "a", "b"],
    [outside, "Yes.", "", "Yes."],
    [outside, "No <think>, as text</think>.", "", "No <think>, as text</think>."],
    [outside, "<thin", "", "<thin"],
    [outside, "<think>cut off </thi", "cut off </thi", ""],
    [outside, "<think>\n\n</think>\n\nYes.", "", "Yes."],
    [inside, "\nWell.\n</think>\nYes.", "Well.", "Yes."],
    [inside, "<think>Well.</think>Yes.", "Well.", "Yes."],
    [inside, "<think><think>Well.", "<think>Well.", ""],
    [inside, "no end", "no end", ""],
    [inside, "a</think>b</think>c", "a", "b</think>c"],
  ];
  test.each(cases)("%j %j", (form, text, reasoning, content) => {
    expect(read(form, [text])).toEqual({ content, reasoning, calls: [] });
    expect(read(form, Array.from(text))).toEqual({ content, reasoning, calls: [] });
  });

  test("counts the tokens up to the closing mark", () => {
    const reader = new MessageReader(outside);
    for (const text of ["<think>", "a", "b", "</think>", "c", "d"]) reader.push(text, 1);
    expect(reader.reasoningTokens).toBe(4);
  });

  test("is found in templates, and open where the prompt has opened it", () => {
    expect(reasoningFormatOf("… {% if x %}</think>{% endif %}")?.name).toBe("think");
    expect(reasoningFormatOf("[THINK]")?.name).toBe("mistral");
    expect(reasoningFormatOf("<|im_start|>")).toBeUndefined();
    expect(endsInReasoning("… <think>\n", THINK)).toBe(true);
    expect(endsInReasoning("… <think>\n\n</think>\n", THINK)).toBe(false);
    expect(endsInReasoning("…", THINK)).toBe(false);
  });
});

const WEATHER = '{"name": "get_weather", "arguments": {"city": "Köln", "days": [1, {"a": "}"}]}}';
const WEATHER_CALL = ["get_weather", '{"city": "Köln", "days": [1, {"a": "}"}]}'];
const ADD_CALL = ["add", '{"a": 1, "b": 2}'];

const CALLS: readonly (readonly [
  format: string,
  text: string,
  content: string,
  calls: unknown[],
])[] = [
  ["hermes", `<tool_call>\n${WEATHER}\n</tool_call>`, "", [WEATHER_CALL]],
  [
    "hermes",
    `Let me see.\n\n<tool_call>\n${WEATHER}\n</tool_call>\n<tool_call>{"arguments": {"a": 1, "b": 2}, "name": "add"}</tool_call>\n`,
    "Let me see.",
    [WEATHER_CALL, ADD_CALL],
  ],
  ["hermes", '<tool_call>{"name": "add"}</tool_call> Done.', " Done.", [["add", "{}"]]],
  ["hermes", '<tool_call>{"name": "add", "arguments": null}</tool_call>', "", [["add", "{}"]]],
  [
    "hermes",
    '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
    "",
    [["add", '{"a": 1}']],
  ],
  [
    "hermes",
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    [],
  ],
  ["hermes", "<tool_call>not JSON</tool_call>", "<tool_call>not JSON</tool_call>", []],
  ["hermes", '<tool_call>{"name": "add", "arguments": {"a": 1', "", [["add", '{"a": 1']]],
  ["hermes", '<tool_call>{"na', '<tool_call>{"na', []],
  ["hermes", "a < b, <tool_ca", "a < b, <tool_ca", []],
  ["hermes", WEATHER, WEATHER, []],
  ["llama3_json", '{"name": "add", "parameters": {"a": 1, "b": 2}}', "", [ADD_CALL]],
  [
    "llama3_json",
    `<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": 2}}; ${WEATHER}`,
    "",
    [ADD_CALL, WEATHER_CALL],
  ],
  ["llama3_json", '{"answer": 5, "name": "add"}', '{"answer": 5, "name": "add"}', []],
  ["llama3_json", '[1, 2, "x"]', '[1, 2, "x"]', []],
  ["llama3_json", `Look: ${WEATHER}`, `Look: ${WEATHER}`, []],
  [
    "mistral",
    `[TOOL_CALLS][${WEATHER}, {"name": "add", "arguments": {"a": 1, "b": 2}}]`,
    "",
    [WEATHER_CALL, ADD_CALL],
  ],
  [
    "mistral",
    '[TOOL_CALLS]add{"a": 1, "b": 2}[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}',
    "",
    [ADD_CALL, ADD_CALL],
  ],
  ["mistral", "[TOOL_CALLS]nothing of the kind", "[TOOL_CALLS]nothing of the kind", []],
  [
    "pythonic",
    `[add(a=1, b=2), get_weather(city="Köln", days=[1, {'a': "}"}])]`,
    "",
    [ADD_CALL, ["get_weather", '{"city": "Köln", "days": [1, {"a": "}"}]}']],
  ],
  ["pythonic", "<|python_start|>[add()]<|python_end|>", "", [["add", "{}"]]],
  ["pythonic", "[1, 2]", "[1, 2]", []],
  ["pythonic", "[add(a=1", "", [["add", "{"]]],
  ["pythonic", "[other(a=1)]", "[other(a=1)]", []],
  ["json", `\`\`\`json\n${WEATHER}\n\`\`\``, "", [WEATHER_CALL]],
  ["json", `<tool_call>${WEATHER}</tool_call>`, "", [WEATHER_CALL]],
  ["json", '```json\n{"answer": 5}\n```', '```json\n{"answer": 5}\n```', []],
  ["json", "`x` and ```js", "`x` and ```js", []],
];

describe("calls", () => {
  test.each(CALLS)("%s: %j", (format, text, content, expected) => {
    expect(read(calls(format), [text])).toEqual({ content, reasoning: "", calls: expected });
  });

  test("arguments are told as they come", () => {
    const reader = new MessageReader(calls("hermes"));
    reader.push('<tool_call>{"name": "add", "arguments": {"a"', 1);
    expect(reader.push(": 12", 1)).toEqual([{ kind: "arguments", index: 0, text: ": 12" }]);
  });

  test("without parallel calls the first is the only one", () => {
    const text = `<tool_call>${WEATHER}</tool_call>\n<tool_call>${WEATHER}</tool_call> and more`;
    expect(read(calls("hermes", false), [text])).toEqual({
      content: "",
      reasoning: "",
      calls: [WEATHER_CALL],
    });
  });

  test("follow reasoning, and are none inside it", () => {
    const form = { ...calls("hermes"), reasoning: { format: THINK, isInside: false } };
    const text = `<think>I could <tool_call>${WEATHER}</tool_call></think>\n<tool_call>${WEATHER}</tool_call>`;
    expect(read(form, [text])).toEqual({
      content: "",
      reasoning: `I could <tool_call>${WEATHER}</tool_call>`,
      calls: [WEATHER_CALL],
    });
  });

  test.each([
    ["{% for t in tools %}<tool_call>", "hermes"],
    ["{{ '[TOOL_CALLS]' }}", "mistral"],
    ["{{ '<|python_tag|>' }}", "llama3_json"],
    ["[func_name1(params_name1=params_value1)]", "pythonic"],
    ["{{ messages }}", "json"],
  ])("the format of %j is %s", (template, name) => {
    expect(callFormatOf(template).name).toBe(name);
  });
});

test("the options name all formats", () => {
  const calls: readonly string[] = OPTIONS["tool-call-parser"].choices;
  expect(calls).toEqual(["auto", ...CALL_FORMATS.map(({ name }) => name)]);
  const reasoning: readonly string[] = OPTIONS["reasoning-parser"].choices;
  expect(reasoning).toEqual(["auto", "none", ...REASONING_FORMATS.map(({ name }) => name)]);
});

test(
  "what is read does not depend on how the text was cut",
  () => {
    const parts = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "```json", "```",
    WEATHER, '{"name": "add", "parameters": {"a": [1, "]"]}}', "add", "[ARGS]", '{"a": 1}', "[add(a='x, y', b=-.5)]",
    '{"name": "add", "arguments": {"a": 1} oops', "[", "]", ", ", "; ", "\n", " ", "text", "<", "`", "{", "}", '"', "(", "é",
  ]; // prettier-ignore
    const forms = ["hermes", "mistral", "llama3_json", "pythonic", "json"].flatMap((name) =>
      [undefined, true, false].map((isInside): MessageForm => {
        const reasoning = isInside === undefined ? undefined : { format: THINK, isInside };
        return { calls: calls(name).calls, reasoning };
      }),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...forms),
        fc.array(fc.constantFrom(...parts), { maxLength: 8 }),
        fc.array(fc.nat(200), { maxLength: 6 }),
        (form, texts, cuts) => {
          const text = texts.join("");
          const places = [0, ...cuts.map((cut) => cut % (text.length + 1)), text.length].toSorted(
            (a, b) => a - b,
          );
          const pieces = places.slice(1).map((to, i) => text.slice(places[i], to));
          const whole = read(form, [text]);
          expect(read(form, pieces)).toEqual(whole);
          expect(read(form, Array.from(text))).toEqual(whole);
        },
      ),
      propertyRuns(1500),
    );
  },
  PROPERTY_LIMIT_MS,
);
