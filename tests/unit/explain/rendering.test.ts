/** Which part of a conversation a place in its prompt belongs to: what is said fits letter by letter, or nothing is said. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Template } from "@huggingface/jinja";
import * as fc from "fast-check";
import { partsOf, type Rendering } from "../../../engine/server/explain/rendering.ts";
import { placeOf } from "../../../engine/server/explain/place.ts";
import { renderChat } from "../../../engine/tokenizer/chat-template.ts";
import { BOS_ID, ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { TOOL_TEMPLATE } from "../../support/explain-world.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";
import smollm from "../tokenizer/vectors/smollm2-chat.json" with { type: "json" };

setDefaultTimeout(PROPERTY_LIMIT_MS);

type Message = Readonly<Record<string, unknown>>;

const compiledTemplates = new Map<string, Template>();

/** Each template is compiled once. */
function compile(template: string): Template {
  const compiled = compiledTemplates.get(template) ?? new Template(template);
  compiledTemplates.set(template, compiled);
  return compiled;
}

function rendering(
  template: string,
  messages: readonly Message[],
  tools: readonly unknown[] = [],
): Rendering {
  const compiled = compile(template);
  return {
    messages,
    tools,
    template,
    render: (those, theirs) =>
      compiled.render({ messages: those, ...(theirs.length === 0 ? {} : { tools: theirs }) }),
  };
}

const promptOf = (one: Rendering): string => one.render(one.messages, one.tools);
/** What each part is and its text. */
const shown = (one: Rendering): string[] => {
  const prompt = promptOf(one);
  return partsOf(prompt, one).map((part) => {
    const message = "message" in part ? part.message : "";
    return `${part.part}${message}: ${prompt.slice(part.start, part.end)}`;
  });
};

describe("the parts of a prompt", () => {
  test("of the default model's template are its messages and what stands between them", () => {
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Why <|im_end|>?\n" },
    ];
    const one: Rendering = {
      messages,
      tools: [],
      template: smollm.template,
      render: (those) =>
        renderChat(smollm.template, those as typeof messages, {
          addGenerationPrompt: true,
          bosToken: "<|im_start|>",
          eosToken: "<|im_end|>",
        }),
    };
    expect(shown(one)).toEqual([
      "template0: <|im_start|>system\n",
      "message0: Be brief.",
      "template1: <|im_end|>\n<|im_start|>user\n",
      "message1: Why <|im_end|>?\n",
      "template: <|im_end|>\n<|im_start|>assistant\n",
    ]);
  });

  test("are texts of tools, with the brackets between them, and of calls as JSON writes them", () => {
    const template =
      "{% for t in tools %}{{ t | tojson }}{% endfor %}" +
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.calls or [] %}({{ c.arguments | tojson }}){% endfor %}{% endfor %}";
    const tools = [{ name: "clock", about: 'Tells the "time"' }];
    const messages = [
      { role: "user", content: "When?" },
      { role: "assistant", content: "", calls: [{ arguments: { zone: 'a"b' } }] },
    ];
    expect(shown(rendering(template, messages, tools))).toEqual([
      'template: {"name": "',
      "tools: clock",
      'tools: ", "about": "',
      String.raw`tools: Tells the \"time\"`,
      'template0: "}[user]',
      "message0: When?",
      'template1: [assistant]({"zone": "',
      String.raw`message1: a\"b`,
      'template: "})',
    ]);
  });

  test("are parts of a text where the template cuts it", () => {
    const template =
      "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] | trim }}</{{ m.role }}>{% endfor %}";
    const messages = [
      { role: "user", content: "  Why? " },
      { role: "assistant", content: "<think>hm</think>\n\nSo." },
    ];
    expect(shown(rendering(template, messages))).toEqual([
      "template0: <user>",
      "message0: Why?",
      "template1: </user><assistant>",
      "message1: So.",
      "template: </assistant>",
    ]);
  });

  test("end where the template does with a text what cannot be followed", () => {
    const template =
      "{% for m in messages %}[{{ m.content | upper if m.role == 'user' else m.content }}]{% endfor %}";
    const messages = [
      { role: "system", content: "one" },
      { role: "user", content: "two" },
      { role: "assistant", content: "three" },
    ];
    expect(shown(rendering(template, messages))).toEqual([
      "template0: [",
      "message0: one",
      "template1: ][",
    ]);
  });

  test("are none where the template refuses marks, or shows another conversation", () => {
    const refuses = rendering(
      "{% if messages[0].content != 'hi' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
      [{ role: "user", content: "hi" }],
    );
    expect(shown(refuses)).toEqual([]);
    const one = rendering(TOOL_TEMPLATE, [{ role: "user", content: "hi" }]);
    expect(partsOf("something else", one)).toEqual([]);
  });

  test("cover the prompt, and each message's part is its text, whatever the texts are", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("", "[user]", "[assistant]", "a[user]b", "\u{F0000}0\u{F0001}", "]"),
    );
    const message = fc.record({ role: fc.constantFrom("user", "assistant"), content: text });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        const one = rendering(TOOL_TEMPLATE, messages);
        const prompt = promptOf(one);
        let at = 0;
        for (const part of partsOf(prompt, one)) {
          expect(part.start).toBe(at);
          at = part.end;
          const own = prompt.slice(part.start, part.end);
          if (part.part === "message") expect(messages[part.message]!.content).toContain(own);
        }
        const isMarked = messages.some(({ content }) => content.includes("\u{F0000}"));
        if (!isMarked) expect(at).toBe(prompt.length);
      }),
      propertyRuns(100),
    );
  });
});

describe("the place of a token", () => {
  const tokenizer = new ByteTokenizer();

  test("of a prompt that the template renders differently by now is not guessed", () => {
    let day = 25;
    const one: Rendering = {
      ...rendering(TOOL_TEMPLATE, [{ role: "user", content: "hi" }]),
      render: () => `[${day}]hi`,
    };
    const ids = tokenizer.encode(promptOf(one), { parseSpecial: true });
    day = 26;
    expect(placeOf(tokenizer, ids, 5, undefined, one)).toMatchObject({
      text: "i",
      part: "unknown",
    });
  });

  test("of a text is in the prompt; a control token is shown as it is written", () => {
    const ids = Int32Array.of(BOS_ID, 104, 105);
    expect(placeOf(tokenizer, ids, 0, undefined, undefined)).toEqual({
      text: "<|256|>",
      near: "<|256|>hi",
      looksLike: undefined,
      part: "prompt",
    });
    expect(placeOf(tokenizer, ids, 2, 106, undefined)).toMatchObject({ text: "i", part: "prompt" });
  });

  test("inside a character is that of the character", () => {
    const ids = tokenizer.encode("é–", { parseSpecial: true });
    for (const position of [2, 3, 4])
      expect(placeOf(tokenizer, ids, position, undefined, undefined)).toMatchObject({ near: "é–" });
    expect(placeOf(tokenizer, Int32Array.of(255, 104), 0, undefined, undefined)).toMatchObject({
      text: "\uFFFD",
      part: "prompt",
    });
  });

  test.each([
    ["at 2026-11-26T09:41:07", 18, "time"],
    ["at 2026-11-26, noon", 12, "time"],
    ["at 9:41 am", 5, "time"],
    ["on November 26, 2026", 12, "time"],
    ["on 26.11.2026", 9, "time"],
    ["now=1764150067123", 12, "time"],
    ["5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11", 20, "uuid"],
    ["a ratio of 3:2", 12, undefined],
    ["the year 1984", 10, undefined],
    ["a number, 12345", 12, undefined],
  ] as const)("in %p at %p looks like %p", (text, position, looks) => {
    const ids = tokenizer.encode(text, { parseSpecial: true });
    expect(placeOf(tokenizer, ids, position, undefined, undefined).looksLike).toBe(looks);
  });
});
