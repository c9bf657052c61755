/** A chat on its way: the sequences behind it, and the readers of their answers. */

import type { Context } from "hono";
import type { ChatPrompt } from "./chat-prompt.ts";
import { chatPrompt } from "./chat-prompt.ts";
import type { ChoiceDelta } from "./choice.ts";
import type { AppContext, Env } from "./deps.ts";
import { Generation } from "./generation.ts";
import { MessageReader, tokensOf } from "./message/message-reader.ts";
import type { MessagePiece } from "./message/piece.ts";
import type { ChatRequest } from "./openai.ts";
import type { RequestPin } from "./pins/pin-marked.ts";
import { chatGrammar } from "./structured/answer-grammar.ts";
import { type AnswerGrammar, compileGrammar } from "./structured/compile.ts";

export class ChatGeneration {
  readonly generation: Generation;
  readonly prompt: ChatPrompt;
  readonly request: ChatRequest;
  /** One for each choice; none where answers are nothing but text. */
  readonly #readers: readonly MessageReader[];

  readonly #warnings: readonly string[];

  /** Checks everything before anything is queued. `promptField`: where the messages came from, for errors. */
  static async create(
    context: AppContext,
    c: Context<Env>,
    request: ChatRequest,
    promptField: string,
  ): Promise<ChatGeneration> {
    const prompt = chatPrompt(context.deps, request);
    const text = chatGrammar(request, prompt.form, context.deps);
    const grammar = await compileGrammar(context, text);
    return new ChatGeneration(context, c, request, promptField, prompt, grammar);
  }

  private constructor(
    context: AppContext,
    c: Context<Env>,
    request: ChatRequest,
    promptField: string,
    prompt: ChatPrompt,
    grammar: AnswerGrammar | undefined,
  ) {
    this.request = request;
    this.prompt = prompt;
    const { form, tokenIds } = prompt;
    this.#warnings = grammar?.warnings ?? [];
    this.generation = new Generation(context, {
      requestId: c.get("requestId"),
      caller: c.get("caller"),
      prompts: [tokenIds],
      promptField,
      options: request,
      tokens: tokensOf(form, context.deps.tokenizer),
      grammar: grammar?.ref,
      defaultMaxTokens: undefined,
    });
    const isPlain = form.reasoning === undefined && form.calls === undefined;
    this.#readers = isPlain ? [] : this.generation.choices.map(() => new MessageReader(form));
  }

  /** Names of fields that were read past. */
  get ignored(): readonly string[] {
    return [...this.request.ignored, ...this.prompt.ignored, ...this.#warnings];
  }

  /** What of the prompt is to be pinned. */
  get pins(): readonly RequestPin[] {
    const { id, promptTokenIds } = this.generation.firstOf(0).request;
    const { pinMs } = this.request;
    const whole = pinMs === undefined ? [] : [{ numTokens: promptTokenIds.length, ttlMs: pinMs }];
    return [...this.prompt.pins, ...whole].map(({ numTokens, ttlMs }) => ({
      request: id,
      numTokens,
      ttlMs,
    }));
  }

  /** What a delta adds to its choice's message; the last delta adds what was kept back. */
  piecesOf({ index, text, numTokens, finish }: ChoiceDelta): readonly MessagePiece[] {
    const reader = this.#readers[index];
    if (reader === undefined) return text === "" ? [] : [{ kind: "content", text }];
    const pieces = reader.push(text, numTokens);
    if (finish !== undefined) pieces.push(...reader.end());
    if (this.request.includeReasoning) return pieces;
    return pieces.filter(({ kind }) => kind !== "reasoning");
  }

  /** Once the choice has finished. */
  finishReason(index: number, reason: "stop" | "length"): "stop" | "length" | "tool_calls" {
    return reason === "stop" && this.#readers[index]?.hasCalled === true ? "tool_calls" : reason;
  }

  get reasoningTokens(): number {
    return this.#readers.reduce((sum, reader) => sum + reader.reasoningTokens, 0);
  }
}
