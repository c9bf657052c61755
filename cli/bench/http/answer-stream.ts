/** The events of one streamed completion, added up: when output came, how many tokens, and how it ended. */

import type { Chunk } from "../types.ts";
import { asArray, asObject, asText, type JsonObject, parseJson } from "./json.ts";
import { readSglangTiers, readTimings, readUsage, type TokenUsage } from "./usage.ts";

/** What is said of an event that is not what it should be; the text in it is clipped. */
const MAX_SHOWN = 200;

/** A stream that cannot be read on. */
export class StreamError extends Error {}

export class AnswerStream {
  readonly chunks: Chunk[] = [];
  text = "";
  /** `[DONE]` has come. */
  done = false;
  /** A finish reason has come: the answer is whole, though the server may not say `[DONE]`. */
  finished = false;
  promptTokens: number | undefined;
  outputTokens: number | undefined;
  cachedTokens: number | undefined;
  cachedByTier: TokenUsage["cachedByTier"];
  /** What was wrong with a `usage`. */
  usageFault: string | undefined;
  readonly #tokenIds: number[] = [];
  /** Output tokens of the chunks so far. */
  #told = 0;
  /** Whether chunks carry the count so far; known with the first one that has output. */
  #counted: boolean | undefined;

  /** Of the output; undefined where the server does not tell them. */
  get tokenIds(): readonly number[] | undefined {
    return this.#tokenIds.length === 0 ? undefined : this.#tokenIds;
  }

  /** Output tokens by the chunks' own counts. */
  get toldTokens(): number {
    return this.#told;
  }

  /** One event's data, which came at `at`. Throws `StreamError` for what is no chunk, and for the server's own errors. */
  push(data: string, at: number): void {
    if (data === "[DONE]") {
      this.done = true;
      return;
    }
    const chunk = asObject(parseJson(data));
    if (chunk === undefined)
      throw new StreamError(`malformed event: ${clip(data)} is not a JSON object`);
    if (chunk["error"] !== undefined && chunk["error"] !== null)
      throw new StreamError(`the server reported: ${errorMessage(chunk)}`);
    this.#readCounts(chunk);
    const choice = asObject(asArray(chunk["choices"])?.[0]);
    if (choice === undefined) return;
    const text = textOf(choice);
    const numTokens = this.#countTokens(choice, text);
    this.text += text;
    if (text !== "" || numTokens > 0) this.chunks.push({ at, numTokens });
    if (choice["finish_reason"] !== undefined && choice["finish_reason"] !== null)
      this.finished = true;
  }

  /** The stream has ended. Where only a sum was told and there are as many chunks, each brought one token. */
  settle(): void {
    if (this.#told > 0 || this.outputTokens !== this.chunks.length) return;
    for (const [i, { at }] of this.chunks.entries()) this.chunks[i] = { at, numTokens: 1 };
    this.#told = this.chunks.length;
  }

  /** Output tokens that a chunk brought; 0 = the server does not tell. */
  #countTokens(choice: JsonObject, text: string): number {
    const ids = asArray(choice["token_ids"])?.filter((id) => typeof id === "number") ?? [];
    this.#tokenIds.push(...ids);
    const soFar = this.outputTokens ?? 0;
    if (text !== "") this.#counted ??= soFar > 0;
    const numTokens = ids.length || (this.#counted === true ? Math.max(0, soFar - this.#told) : 0);
    this.#told += numTokens;
    return numTokens;
  }

  #readCounts(chunk: JsonObject): void {
    const usage = readUsage(chunk);
    if (typeof usage === "string") this.usageFault = usage;
    const timings = readTimings(chunk);
    const counts = typeof usage === "object" ? usage : undefined;
    this.promptTokens = counts?.promptTokens ?? this.promptTokens;
    this.outputTokens = counts?.outputTokens ?? timings.outputTokens ?? this.outputTokens;
    this.cachedTokens = counts?.cachedTokens ?? timings.cachedTokens ?? this.cachedTokens;
    this.cachedByTier = counts?.cachedByTier ?? readSglangTiers(chunk) ?? this.cachedByTier;
  }
}

/** Reasoning and tool calls are output like any other. */
function textOf(choice: JsonObject): string {
  const text = asText(choice["text"]);
  if (text !== undefined) return text;
  const delta = asObject(choice["delta"]);
  if (delta === undefined) return "";
  const reasoning = asText(delta["reasoning_content"]) ?? asText(delta["reasoning"]) ?? "";
  return reasoning + (asText(delta["content"]) ?? "") + toolCallText(delta["tool_calls"]);
}

function toolCallText(calls: unknown): string {
  const parts = asArray(calls) ?? [];
  return parts
    .map((part) => asObject(asObject(part)?.["function"]))
    .map((call) => (asText(call?.["name"]) ?? "") + (asText(call?.["arguments"]) ?? ""))
    .join("");
}

/** The message of an error body in the forms that servers use; the body itself where there is none. */
export function errorMessage(body: unknown): string {
  const fields = asObject(body);
  const error = fields?.["error"];
  const message =
    asText(asObject(error)?.["message"]) ??
    asText(error) ??
    asText(fields?.["message"]) ??
    asText(fields?.["detail"]);
  return clip(message ?? (typeof body === "string" ? body : (JSON.stringify(body) ?? "nothing")));
}

export function clip(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
}
