/** Constructed misses: for each one the cause, and where the prompts are what differs, the position, the token and its place. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../../connectors/cpu-offload.ts";
import type { PromptExplanation } from "../../../engine/server/explain/explanation.ts";
import { type Conversation, ExplainWorld, partingOf } from "../../support/explain-world.ts";
import { EPOCH, FULL, STATE, windowOf, type WorldOptions } from "../../support/scheduler-world.ts";

const RULES = "Answer in one sentence, and say so when you do not know. ".repeat(2);
const QUESTION = ["user", "What does a KV cache keep, and for how long does it keep it?"] as const;

function system(text: string, ...rest: readonly (readonly [string, string])[]): Conversation {
  return { messages: [["system", text], ...(rest.length === 0 ? [QUESTION] : rest)] };
}

const WEATHER = { name: "weather", description: "Tells the weather of a place in the world." };
const CLOCK = { name: "clock", description: "Tells the time of a place in the world, if asked." };
const withTools = (...tools: readonly unknown[]): Conversation => ({ ...system(RULES), tools });

const DATED = `Today is {{ date }}. ${"{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"}`;
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

/** What came before, and the request that is asked about. */
interface Miss {
  readonly name: string;
  readonly options?: Partial<WorldOptions>;
  /** Answers the request, and one that it is to be compared with. */
  readonly play: (explained: ExplainWorld) => Promise<readonly [number, number?]>;
  readonly told: Partial<PromptExplanation>;
  readonly says?: string;
}

const LONG = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while. ";
const text = (length: number, start = ""): string => (start + LONG.repeat(20)).slice(0, length);
const offload = (hostPages = 400): Pick<WorldOptions, "connectors"> => ({
  connectors: {
    list: [{ name: "cpu-offload", connector: new CpuOffload({ mode: "eager" }) }],
    hostPages,
  },
});
/** 24 blocks of eight tokens. */
const TIGHT = { numBlocks: 24 };

const MISSES: readonly Miss[] = [
  {
    name: "the first request since the engine started, as after a restart without a disk",
    play: async (explained) => [await explained.send(text(100))],
    told: { cause: "never_stored", hit_tokens: 0, request: 1 },
    says: "the first request since the engine started",
  },
  {
    name: "the same prompt again: nothing is missed but the block that is not full",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: { cause: "none", hit_tokens: 96, cached_tokens: 96, tiers: { device: 96 } },
  },
  {
    name: "the same prompt of whole blocks again: the last token is always computed",
    play: async (explained) => {
      await explained.send(text(96));
      return [await explained.send(text(96))];
    },
    told: { cause: "none", hit_tokens: 88 },
    says: "always computed",
  },
  {
    name: "a prompt shorter than a block",
    play: async (explained) => {
      await explained.send(text(8));
      return [await explained.send(text(8))];
    },
    told: { cause: "short_prompt", hit_tokens: 0 },
  },
  {
    name: "another word in the first block",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100, "Then "))];
    },
    told: { cause: "differs", difference: "prompt", hit_tokens: 0 },
    says: 'token 3 ("n") is the first that differs from request 1',
  },
  {
    name: "another first token than any request before",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100, "Now "))];
    },
    told: { cause: "never_stored", hit_tokens: 0, request: 2 },
    says: "no request since the engine started has computed",
  },
  {
    name: "a longer prompt: what is behind the earlier one is new",
    play: async (explained) => {
      await explained.send(text(60), { maxTokens: 1 });
      return [await explained.send(`${text(60)}!!! And a new question, longer than a block.`)];
    },
    told: { cause: "new_tokens", hit_tokens: 56 },
    says: "in a block of 8 not yet full",
  },
  {
    name: "the next turn, with the answer as it was",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 11 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      const next = [...turn, ...explained.answerOf(first), ...turn];
      return [await explained.send(next)];
    },
    told: { cause: "new_tokens", hit_tokens: 64 },
  },
  {
    name: "the next turn, with the answer in other tokens",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 40 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      const answer = explained.answerOf(first).with(20, 256);
      return [await explained.send([...turn, ...answer, ...turn])];
    },
    told: { cause: "differs", hit_tokens: 80 },
    says: "is the first that differs from the answer of request 1",
  },
  {
    name: "the block that the last token of an answer completes: its KV was never computed",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 4 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      return [await explained.send([...turn, ...explained.answerOf(first), ...turn])];
    },
    told: { cause: "not_computed", hit_tokens: 56 },
  },
  {
    name: "the first request with a salt",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100), { cacheSalt: "a" })];
    },
    told: { cause: "other_salt", hit_tokens: 0, closest: null, against: null },
    says: "the first request with its cache_salt",
  },
  {
    name: "the same tokens under another salt",
    play: async (explained) => {
      const first = await explained.send(text(100), { cacheSalt: "a" });
      await explained.send(text(50, "Yes. "), { cacheSalt: "b" });
      return [await explained.send(text(100), { cacheSalt: "b" }), first];
    },
    told: { cause: "other_salt", hit_tokens: 0 },
    says: "request 1 has the same tokens under another cache_salt",
  },
  {
    name: "the same tokens without the salt that they were computed under",
    play: async (explained) => {
      const first = await explained.send(text(100), { cacheSalt: "a" });
      return [await explained.send(text(100)), first];
    },
    told: { cause: "other_salt", hit_tokens: 0 },
  },
  {
    name: "eviction of everything",
    options: TIGHT,
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(190, "Other. "));
      return [await explained.send(text(100))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 0,
      removed: { at: expect.any(Number), by_request: 2, tier_dropped_at: null },
      runs: [
        { start: 0, end: 96, state: "evicted", tier: null },
        { start: 96, end: 100, state: "last", tier: null },
      ],
    },
    says: "when request 2 needed room",
  },
  {
    name: "eviction of the tail, while the head is still there",
    options: TIGHT,
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(120, "Other. "));
      return [await explained.send(text(100))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 64,
      removed: { at: expect.any(Number), by_request: 2, tier_dropped_at: null },
    },
  },
  {
    name: "eviction that is no longer remembered",
    options: { ...TIGHT, explains: { maxRemovals: 4 } },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(190, "Other. "));
      await explained.send(text(190, "Third. "));
      return [await explained.send(text(100))];
    },
    told: { cause: "unknown", hit_tokens: 0, removed: null },
  },
  {
    name: "an earlier prompt that is no longer remembered",
    options: { explains: { maxRequests: 2 } },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(40, "Other. "));
      return [await explained.send(`${text(80)}${text(40, "Else. ")}`)];
    },
    told: {
      cause: "never_stored",
      hit_tokens: 80,
      token: expect.objectContaining({ position: 80 }),
    },
  },
  {
    name: "a reset of the prefix cache",
    play: async (explained) => {
      await explained.send(text(100));
      explained.world.scheduler.resetPrefixCache();
      return [await explained.send(text(100))];
    },
    told: {
      cause: "reset",
      hit_tokens: 0,
      removed: { at: expect.any(Number), by_request: null, tier_dropped_at: null },
    },
  },
  {
    name: "a reset while the earlier request was being computed",
    options: { maxPrefillTokens: 16 },
    play: async (explained) => {
      explained.add(text(100));
      explained.world.submit(1);
      explained.world.scheduler.resetPrefixCache();
      await explained.world.drain();
      // Of the new generation: the first blocks are shared again.
      await explained.send(text(30));
      return [await explained.send(text(100))];
    },
    told: { cause: "reset", hit_tokens: 24, removed: null },
  },
  {
    name: "a step that failed",
    play: async (explained) => {
      explained.world.runner.failNextStep("chance");
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: {
      cause: "step_failed",
      hit_tokens: 0,
      removed: { at: expect.any(Number), by_request: null, tier_dropped_at: null },
    },
  },
  {
    name: "an earlier request that was aborted half way",
    options: { maxPrefillTokens: 32 },
    play: async (explained) => {
      const first = explained.add(text(100));
      explained.world.submit(2);
      explained.world.abort(first);
      await explained.world.drain();
      return [await explained.send(text(100))];
    },
    told: { cause: "not_computed", hit_tokens: 64 },
  },
  {
    name: "an earlier request that was still being answered",
    play: async (explained) => {
      explained.add(text(61), { maxTokens: 20 });
      explained.world.submit(1);
      await explained.world.commit();
      return [await explained.send(text(100))];
    },
    told: { cause: "in_progress", hit_tokens: 56 },
  },
  {
    name: "prefix caching that is off",
    options: { enablePrefixCaching: false },
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: { cause: "caching_off", hit_tokens: 0 },
    says: "--no-enable-prefix-caching",
  },
  {
    name: "log-probabilities of the prompt",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100), { promptLogprobs: 0 })];
    },
    told: { cause: "prompt_logprobs", hit_tokens: 0 },
  },
  {
    name: "offload: what was evicted came back from the host",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(190, "Other. "));
      return [await explained.send(text(100))];
    },
    told: { cause: "none", hit_tokens: 96, tiers: { device: 0, host: 96 } },
  },
  {
    name: "offload: the host, too, had let go of it",
    options: { ...TIGHT, ...offload(8) },
    play: async (explained) => {
      await explained.send(text(60));
      await explained.send(text(190, "Other. "));
      await explained.send(text(190, "Third. "));
      return [await explained.send(text(60))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 0,
      removed: { at: expect.any(Number), by_request: 2, tier_dropped_at: expect.any(Number) },
    },
    says: "a tier had let go of its copy at",
  },
  {
    name: "offload: computing was quicker than loading",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(190, "Other. "));
      explained.world.desk!.loadBytesPerSecond = 1e-3;
      return [await explained.send(text(100))];
    },
    told: { cause: "quicker_to_compute", hit_tokens: 0 },
  },
  {
    name: "offload: a load that failed in its middle",
    options: { ...TIGHT, ...offload() },
    play: async (explained) => {
      const { world } = explained;
      await explained.send(text(100));
      await explained.send(text(190, "Other. "));
      const handle = explained.add(text(100));
      world.submit();
      await world.desk!.run(
        world.desk!.pending.find(({ kind }) => kind === "load")!,
        [4],
      );
      await world.drain();
      return [handle];
    },
    told: { cause: "load_failed", hit_tokens: 32, cached_tokens: 88 },
  },
  {
    name: "layers with a window",
    options: { numBlocks: 40, groups: [FULL, windowOf(20)] },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(60, "Other. "));
      await explained.send(text(40, "Third. "));
      return [await explained.send(text(100))];
    },
    told: { cause: "evicted" },
  },
  {
    name: "layers with a state, which is kept where a request ended only",
    options: { numBlocks: 40, groups: [FULL, STATE] },
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(`${text(60)}${text(50, "Else. ")}`)];
    },
    told: {},
  },
];

describe("a miss by", () => {
  test.each(MISSES)("$name", async ({ options, play, told, says }) => {
    const explained = await ExplainWorld.create(options);
    const [handle, against] = await play(explained);
    const explanation = explained.why(handle, against);
    expect(explanation).toMatchObject(told);
    if (says !== undefined) expect(explanation.sentence).toContain(says);
    const { runs } = explanation;
    expect(runs[0]?.start).toBe(0);
    expect(runs.at(-1)?.end).toBe(explanation.prompt_tokens);
    for (const [i, run] of runs.entries()) expect(run.start).toBe(runs[i - 1]?.end ?? 0);
    const cached = runs.filter(({ state }) => state === "cached");
    const numCached = cached.reduce((sum, { start, end }) => sum + end - start, 0);
    expect(numCached).toBe(explanation.cached_tokens);
    await explained.world.drain();
    await explained.world.stop();
  });

  test("a connector that is disabled is named", async () => {
    const broken = new CpuOffload({ mode: "eager" });
    broken.buildConnectorMeta = () => {
      throw new Error("broken");
    };
    const list = [{ name: "broken", connector: broken }];
    const explained = await ExplainWorld.create({
      ...TIGHT,
      connectors: { list, hostPages: 100 },
    });
    await explained.send(text(100));
    await explained.send(text(190, "Other. "));
    const told = explained.why(await explained.send(text(100)));
    expect(told.cause).toBe("evicted");
    expect(told.hints.join()).toContain("the KV connector broken is disabled");
    await explained.world.stop();
  });

  test("times are those of the world's clock", async () => {
    const explained = await ExplainWorld.create(TIGHT);
    await explained.send(text(100));
    const before = explained.world.now;
    await explained.send(text(190, "Other. "));
    const after = explained.world.now;
    const { removed } = explained.why(await explained.send(text(100)));
    const at = (removed?.at ?? 0) * 1000 - EPOCH;
    expect(at).toBeGreaterThanOrEqual(before);
    expect(at).toBeLessThanOrEqual(after);
    await explained.world.stop();
  });
});
