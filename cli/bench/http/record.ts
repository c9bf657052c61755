/** A streamed answer → the record of its request. */

import type { OutgoingRequest } from "../load/send.ts";
import type { RequestRecord } from "../types.ts";
import type { AnswerStream } from "./answer-stream.ts";

/** How an exchange went, beside the stream itself. */
export interface ExchangeEnd {
  readonly sentAt: number;
  readonly endedAt: number;
  /** 0 = there was no answer. */
  readonly status: number;
  /** What ended it before its time. */
  readonly failure: string | undefined;
}

/** @param countTokens where the model's tokenizer is at hand. */
export function recordOf(
  request: OutgoingRequest,
  stream: AnswerStream,
  end: ExchangeEnd,
  countTokens: ((text: string) => number) | undefined,
): RequestRecord {
  stream.settle();
  const error = fault(stream, end.failure);
  const began = stream.chunks.length > 0;
  const counted = countOutput(stream, error === undefined, countTokens);
  const warning =
    error === undefined ? warningOf(request, stream, counted.outputTokens) : undefined;
  return {
    conversation: request.conversation,
    turn: request.turn,
    sentAt: end.sentAt,
    chunks: stream.chunks,
    endedAt: end.endedAt,
    promptTokens: stream.promptTokens ?? request.numPromptTokens ?? 0,
    ...counted,
    ...(stream.cachedTokens === undefined ? {} : { cachedTokens: stream.cachedTokens }),
    ...(stream.cachedByTier === undefined ? {} : { cachedByTier: stream.cachedByTier }),
    status: end.status,
    outcome: error === undefined ? "ok" : began ? "cut" : "error",
    ...(error === undefined ? {} : { error }),
    ...(warning === undefined ? {} : { warning }),
    text: stream.text,
  };
}

/** Why the answer is not whole; undefined = it is. */
function fault(stream: AnswerStream, failure: string | undefined): string | undefined {
  const numChunks = stream.chunks.length;
  // What goes wrong after the end of an answer takes nothing from it.
  if (stream.done && numChunks > 0) return undefined;
  if (failure !== undefined) return failure;
  if (!stream.done && !stream.finished)
    return `the stream ended without its end after ${numChunks} chunks`;
  return numChunks === 0 ? "the answer has no output" : undefined;
}

type Count = Pick<RequestRecord, "outputTokens" | "countedBy">;

/** A cut answer has no sum yet: what its chunks told, else what can be counted here. */
function countOutput(
  stream: AnswerStream,
  whole: boolean,
  countTokens: ((text: string) => number) | undefined,
): Count {
  const told = whole ? stream.outputTokens : stream.toldTokens;
  const numChunks = stream.chunks.length;
  if (told !== undefined && (told > 0 || numChunks === 0))
    return { outputTokens: told, countedBy: "usage" };
  return countTokens === undefined
    ? { outputTokens: numChunks, countedBy: "chunks" }
    : { outputTokens: countTokens(stream.text), countedBy: "tokenizer" };
}

/** What is odd about an answer that is whole. The part before the colon is the same for all requests that it befell. */
function warningOf(
  request: OutgoingRequest,
  stream: AnswerStream,
  outputTokens: number,
): string | undefined {
  const { usageFault, promptTokens } = stream;
  const numChunks = stream.chunks.length;
  if (usageFault !== undefined) return `the server's usage is wrong: ${usageFault}`;
  if (stream.outputTokens === undefined)
    return "the server told no usage: output tokens are counted here";
  if (stream.outputTokens < numChunks)
    return `usage counts fewer tokens than chunks came: ${stream.outputTokens} for ${numChunks} chunks`;
  if (outputTokens > request.maxTokens)
    return `more tokens than asked: ${outputTokens} of ${request.maxTokens}`;
  if (request.ignoreEos && outputTokens < request.maxTokens)
    return `fewer tokens than asked with ignore_eos: ${outputTokens} of ${request.maxTokens}`;
  const asked = request.prompt.kind === "chat" ? undefined : request.numPromptTokens;
  if (asked !== undefined && promptTokens !== undefined && promptTokens !== asked)
    return `the server counts the prompt otherwise: ${promptTokens} tokens, sent were ${asked}`;
  return undefined;
}
