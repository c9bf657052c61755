/** Conversations on the witness, a byte a token, and what is said of them afterwards. */

import { Template } from "@huggingface/jinja";
import type { GenerateRequest, SamplingParams } from "../../engine/request.ts";
import {
  explanationSchema,
  type PromptExplanation,
} from "../../engine/server/explain/explanation.ts";
import { explainPrompt } from "../../engine/server/explain/explain-prompt.ts";
import type { Rendering } from "../../engine/server/explain/rendering.ts";
import { BYTE_VOCAB_SIZE, ByteTokenizer } from "./byte-tokenizer.ts";
import { FULL, makeRequest, requestId, World, type WorldOptions } from "./scheduler-world.ts";

/** Tools, then messages. */
export const TOOL_TEMPLATE: string =
  "{% if tools %}[tools]{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}" +
  "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";

export interface Conversation {
  readonly messages: readonly (readonly [role: string, content: string])[];
  readonly tools?: readonly unknown[];
  readonly template?: string;
  /** What the template reads beside messages and tools. */
  readonly date?: string;
}

export type Sent = Partial<SamplingParams> & Pick<GenerateRequest, "cacheSalt">;

export function renderingOf(conversation: Conversation): Rendering {
  const { template = TOOL_TEMPLATE, tools = [], date = "" } = conversation;
  return {
    messages: conversation.messages.map(([role, content]) => ({ role, content })),
    tools,
    template,
    render: (messages, those) =>
      new Template(template).render({
        messages,
        date,
        ...(those.length === 0 ? {} : { tools: those }),
      }),
  };
}

const SMALL: WorldOptions = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 4096,
  blockSize: 8,
  numBlocks: 400,
  groups: [FULL],
  maxModelLen: 4000,
  vocabSize: BYTE_VOCAB_SIZE,
  explains: {},
};

export class ExplainWorld {
  readonly tokenizer: ByteTokenizer = new ByteTokenizer();
  readonly world: World;
  readonly #renderings = new Map<string, Rendering>();
  #handles = 0;

  private constructor(world: World) {
    this.world = world;
  }

  /** 400 blocks of eight tokens. */
  static async create(options: Partial<WorldOptions> = {}): Promise<ExplainWorld> {
    return new ExplainWorld(await World.create({ ...SMALL, ...options }));
  }

  /** Adds a request; answers its handle. */
  add(prompt: Conversation | string | readonly number[], sent: Sent = {}): number {
    const handle = this.#handles++;
    const { cacheSalt, ...sampling } = sent;
    const salt = cacheSalt === undefined ? {} : { cacheSalt };
    const ids = this.#encode(prompt, handle);
    this.world.add(handle, makeRequest(handle, [...ids], { maxTokens: 2, ...sampling }, salt));
    return handle;
  }

  /** Serves a request to its end. */
  async send(prompt: Conversation | string | readonly number[], sent: Sent = {}): Promise<number> {
    const handle = this.add(prompt, sent);
    await this.world.drain();
    return handle;
  }

  /** The tokens that a request was answered with. */
  answerOf(handle: number): readonly number[] {
    return this.world.received.get(handle)?.tokens ?? [];
  }

  why(handle: number, against?: number): PromptExplanation {
    const facts = this.world.explainer?.explain({
      id: requestId(handle),
      ...(against === undefined ? {} : { against: requestId(against) }),
    });
    if (facts === undefined) throw new Error(`request ${handle} is forgotten`);
    const noted = (id: string): { rendering: Rendering | undefined } => ({
      rendering: this.#renderings.get(id),
    });
    const prompt = explainPrompt(this.tokenizer, {
      index: 0,
      facts,
      own: noted(requestId(handle)),
      closest: facts.closest === undefined ? undefined : noted(facts.closest.id),
    });
    // What is said is what is promised.
    explanationSchema.parse({
      object: "kv.explanation",
      id: requestId(handle),
      engine_started_at: facts.engineStartedAt / 1000,
      is_complete: facts.isComplete,
      prompts: [prompt],
    });
    return prompt;
  }

  #encode(prompt: Conversation | string | readonly number[], handle: number): Iterable<number> {
    if (typeof prompt === "string") return this.tokenizer.encode(prompt, { parseSpecial: true });
    if (!("messages" in prompt)) return prompt;
    const rendering = renderingOf(prompt);
    this.#renderings.set(requestId(handle), rendering);
    const text = rendering.render(rendering.messages, rendering.tools);
    return this.tokenizer.encode(text, { parseSpecial: true });
  }
}

/** The first byte at which two conversations differ. */
export function partingOf(a: Conversation, b: Conversation): number {
  const [first, second] = [a, b].map((one) => {
    const { messages, tools, render } = renderingOf(one);
    return Buffer.from(render(messages, tools));
  }) as [Buffer, Buffer];
  let at = 0;
  while (at < first.length && first[at] === second[at]) at++;
  return at;
}
