/** One response on its way: what was asked, what has come, and the object that tells of both. */

import type { KvEngineError } from "../../errors.ts";
import { type UsageJson, usageJson } from "../answers.ts";
import { errorBody } from "../http-error.ts";
import type { ChatGeneration } from "../chat-generation.ts";
import type { ChoiceDelta } from "../choice.ts";
import type { AppContext } from "../deps.ts";
import { chatLogprobs } from "../logprobs.ts";
import type { ResponsesRequest } from "./fields.ts";
import { newId } from "./ids.ts";
import { type ResponseEvent, ResponseOutput } from "./output.ts";

export type ResponseStatus = "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";

export class ModelResponse {
  readonly id: string = newId("resp");
  readonly request: ResponsesRequest;
  readonly chat: ChatGeneration;
  readonly output: ResponseOutput = new ResponseOutput();
  status: ResponseStatus = "in_progress";
  readonly #context: AppContext;
  readonly #createdAt: number = Math.floor(Date.now() / 1000);
  #completedAt: number | null = null;
  #error: KvEngineError | undefined;

  constructor(context: AppContext, request: ResponsesRequest, chat: ChatGeneration) {
    this.#context = context;
    this.request = request;
    this.chat = chat;
  }

  /** Takes the next delta; the last one ends the response. */
  add(delta: ChoiceDelta): ResponseEvent[] {
    const { tokenizer } = this.#context.deps;
    const logprobs = this.request.withLogprobs ? chatLogprobs(tokenizer, delta.tokens).content : [];
    const events = this.output.add(this.chat.piecesOf(delta), logprobs);
    if (delta.finish === undefined) return events;
    const status = delta.finish.reason === "length" ? "incomplete" : "completed";
    events.push(...this.output.end(status));
    this.#end(status);
    return events;
  }

  fail(error: KvEngineError): void {
    this.#error = error;
    this.#end("failed");
  }

  /** Gives up what still runs. */
  cancel(): void {
    if (this.status !== "in_progress") return;
    this.#end("cancelled");
    this.chat.generation.abort();
  }

  toJSON(): object {
    const { request, status } = this;
    const { echoed, chat } = request;
    return {
      id: this.id,
      object: "response",
      created_at: this.#createdAt,
      completed_at: this.#completedAt,
      status,
      background: request.background,
      error: this.#errorJson(),
      incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
      instructions: request.instructions ?? null,
      model: this.#context.deps.model.name,
      output: status === "in_progress" ? [] : this.output.soFar(),
      previous_response_id: request.previousResponseId ?? null,
      store: request.store,
      temperature: chat.temperature,
      top_p: chat.topP,
      truncation: "disabled",
      service_tier: "default",
      usage: status === "in_progress" ? null : this.#usageJson(),
      ...echoed,
    };
  }

  #end(status: ResponseStatus): void {
    this.status = status;
    if (status === "completed") this.#completedAt = Math.floor(Date.now() / 1000);
  }

  #errorJson(): object | null {
    if (this.#error === undefined) return null;
    return { code: "server_error", message: errorBody(this.#error).error.message };
  }

  #usageJson(): object {
    const { generation, reasoningTokens } = this.chat;
    const usage: UsageJson = usageJson(generation.usage());
    return {
      input_tokens: usage.prompt_tokens,
      // Blocks are kept as they are computed: nobody is charged for it.
      input_tokens_details: { cache_write_tokens: 0, ...usage.prompt_tokens_details },
      output_tokens: usage.completion_tokens,
      output_tokens_details: { reasoning_tokens: reasoningTokens },
      total_tokens: usage.total_tokens,
    };
  }
}
