import { describe, expect, test } from "bun:test";
import { KvEngineError } from "../../../engine/errors.ts";
import { renderChat } from "../../../engine/tokenizer/chat-template.ts";
import recorded from "./vectors/smollm2-chat.json" with { type: "json" };

const OPTIONS = { addGenerationPrompt: true, bosToken: "<|im_start|>", eosToken: "<|im_end|>" };

function errorOf(call: () => unknown): KvEngineError {
  try {
    call();
  } catch (error) {
    if (error instanceof KvEngineError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("the chat template", () => {
  test("of the default model gives what Jinja2 gives", () => {
    expect(recorded.chats.length).toBeGreaterThan(10);
    for (const { messages, addGenerationPrompt, text } of recorded.chats) {
      expect(renderChat(recorded.template, messages, { ...OPTIONS, addGenerationPrompt })).toBe(
        text,
      );
    }
  });

  test("reads the markers' texts, other fields of a message, and no tools", () => {
    const template =
      "{{ bos_token }}{% for m in messages %}{{ m.name }}:{{ m.content }}{% endfor %}{% if tools %}T{% endif %}{{ eos_token }}";
    const named = [{ role: "user", content: "x", name: "Ada" }];
    expect(
      renderChat(template, named, {
        addGenerationPrompt: false,
        bosToken: "<s>",
        eosToken: "</s>",
      }),
    ).toBe("<s>Ada:x</s>");
  });

  test("reads the time by strftime_now", () => {
    expect(renderChat("{{ strftime_now('%Y') }}", [], OPTIONS)).toMatch(/^\d{4}$/);
  });

  test("joins text parts by line breaks and takes no content for an empty text", () => {
    const template = "{% for m in messages %}[{{ m['content'] + '' }}]{% endfor %}";
    const parts = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ] as const;
    const messages = [
      { role: "user", content: parts },
      { role: "assistant", content: null },
      { role: "assistant" },
    ];
    expect(renderChat(template, messages, OPTIONS)).toBe("[a\nb][][]");
  });

  test("does not change the caller's messages", () => {
    const messages = [Object.freeze({ role: "user", content: null })];
    renderChat("{{ messages[0].content }}", Object.freeze(messages), OPTIONS);
    expect(messages).toEqual([{ role: "user", content: null }]);
  });

  test("refuses a conversation with the template's own words", () => {
    const error = errorOf(() =>
      renderChat(
        "{{ raise_exception('roles must alternate') }}",
        [{ role: "user", content: "x" }],
        OPTIONS,
      ),
    );
    expect(error.code).toBe("invalid_request");
    expect(error.message).toContain("roles must alternate");
    expect(error.subject).toBe("messages");
  });

  test("that fails while it runs is an invalid request too", () => {
    expect(
      errorOf(() =>
        renderChat(
          "{{ messages[0].content.nothing() }}",
          [{ role: "user", content: "x" }],
          OPTIONS,
        ),
      ).code,
    ).toBe("invalid_request");
  });

  test("that is no Jinja is a bad model", () => {
    const error = errorOf(() => renderChat("{% for m in %}", [], OPTIONS));
    expect(error.code).toBe("bad_model");
    expect(error.subject).toBe("tokenizer.chat_template");
  });

  test("that the model does not have is said, with the way out", () => {
    const error = errorOf(() => renderChat(undefined, [{ role: "user", content: "x" }], OPTIONS));
    expect(error.code).toBe("invalid_request");
    expect(error.message).toBe("the model has no chat template");
    expect(error.hint).toContain("/v1/completions");
  });
});
