/** Prompts that differ from earlier ones: the cause, the position, the token, and the part of the conversation that it stands in. */

import { describe, expect, test } from "bun:test";
import type { PromptExplanation } from "../../../engine/server/explain/explanation.ts";
import { type Conversation, ExplainWorld, partingOf } from "../../support/explain-world.ts";

const RULES = "Answer in one sentence, and say so when you do not know. ".repeat(2);
const QUESTION = ["user", "What does a KV cache keep, and for how long does it keep it?"] as const;

function system(text: string, ...rest: readonly (readonly [string, string])[]): Conversation {
  return { messages: [["system", text], ...(rest.length === 0 ? [QUESTION] : rest)] };
}

const WEATHER = { name: "weather", description: "Tells the weather of a place in the world." };
const CLOCK = { name: "clock", description: "Tells the time of a place in the world, if asked." };
const withTools = (...tools: readonly unknown[]): Conversation => ({ ...system(RULES), tools });

const DATED =
  "Today is {{ date }}. {% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
const OTHER_TEMPLATE =
  "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[assistant]";

/** Two conversations, one after the other; what is said of the second. */
interface Pair {
  readonly name: string;
  readonly first: Conversation;
  readonly second: Conversation;
  readonly difference: NonNullable<PromptExplanation["difference"]>;
  readonly place: Partial<NonNullable<PromptExplanation["token"]>>;
}

const PAIRS: readonly Pair[] = [
  {
    name: "a time stamp in the system prompt",
    first: system(`It is 2026-11-26T09:41:07. ${RULES}`),
    second: system(`It is 2026-11-26T09:42:31. ${RULES}`),
    difference: "time",
    place: { part: "message", message: 0, role: "system", text: "2", offset: 21 },
  },
  {
    name: "seconds since the epoch in the system prompt",
    first: system(`${RULES} now=1764150067`),
    second: system(`${RULES} now=1764150151`),
    difference: "time",
    place: { part: "message", message: 0, role: "system", text: "1", looks_like: "time" },
  },
  {
    name: "an id of the request in the system prompt",
    first: system(`Request 5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11. ${RULES}`),
    second: system(`Request 0b7e3c9a-6a52-4a0c-8f7d-2d1c5b9e4f60. ${RULES}`),
    difference: "uuid",
    place: { part: "message", message: 0, text: "0", offset: 8 },
  },
  {
    name: "a date that the template writes",
    first: { ...system(RULES), template: DATED, date: "25 Nov 2026" },
    second: { ...system(RULES), template: DATED, date: "26 Nov 2026" },
    difference: "time",
    place: { part: "template", message: 0, text: "6", near: "Today is 26 Nov 2026. [system]Answ" },
  },
  {
    name: "another template",
    first: system(RULES),
    second: { ...system(RULES), template: OTHER_TEMPLATE },
    difference: "template_changed",
    place: { part: "template", message: 0, text: " " },
  },
  {
    name: "tools in another order",
    first: withTools(WEATHER, CLOCK),
    second: withTools(CLOCK, WEATHER),
    difference: "tool_order",
    place: { part: "tools", text: "c", message: null },
  },
  {
    name: "a tool more, before the others",
    first: withTools(WEATHER),
    second: withTools(CLOCK, WEATHER),
    difference: "tools",
    place: { part: "tools", text: "c" },
  },
  {
    name: "another description of a tool",
    first: withTools(WEATHER, CLOCK),
    second: withTools(WEATHER, { ...CLOCK, description: "Tells the date." }),
    difference: "tools",
    place: { part: "tools", text: "d" },
  },
  {
    name: "tools where there were none",
    first: system(RULES),
    second: withTools(WEATHER),
    difference: "tools",
    place: { part: "template", text: "t" },
  },
  {
    name: "an earlier answer that was edited",
    first: system(RULES, QUESTION, ["assistant", "Keys and values."], ["user", "Why?"]),
    second: system(RULES, QUESTION, ["assistant", "Keys & values."], ["user", "Why?"]),
    difference: "message",
    place: { part: "message", message: 2, role: "assistant", text: "&", offset: 5 },
  },
  {
    name: "an earlier question that was edited",
    first: system(RULES, ["user", "What does it keep?"], ["assistant", "Keys."], QUESTION),
    second: system(RULES, ["user", "What does it lose?"], ["assistant", "Keys."], QUESTION),
    difference: "message",
    place: { part: "message", message: 1, role: "user", text: "l", offset: 13 },
  },
  {
    name: "messages that were left out",
    first: system(RULES, QUESTION, ["assistant", "Keys."], ["user", "Why?"]),
    second: system(RULES, ["assistant", "Values."], ["user", "Why?"]),
    difference: "template",
    place: { part: "template", message: 1, role: "assistant", text: "a" },
  },
  {
    name: "another user",
    first: system(`${RULES}The user is Ada Lovelace.`),
    second: system(`${RULES}The user is Alan Turing.`),
    difference: "message",
    place: { part: "message", message: 0, role: "system", text: "l" },
  },
  {
    name: "a character of several tokens",
    first: system(`${RULES} – é`),
    second: system(`${RULES} – è`),
    difference: "message",
    place: { part: "message", message: 0, role: "system", offset: RULES.length + 3 },
  },
];

describe("prompts that differ:", () => {
  test.each(PAIRS)("$name", async ({ first, second, difference, place }) => {
    const explained = await ExplainWorld.create();
    await explained.send(first);
    const told = explained.why(await explained.send(second));
    const position = partingOf(second, first);
    expect(told).toMatchObject({ cause: "differs", difference, token: { position, ...place } });
    expect(told.closest).toMatchObject({ request: 1, common_tokens: position });
    expect(told.hit_tokens).toBe(Math.floor(position / 8) * 8);
    await explained.world.stop();
  });
});
