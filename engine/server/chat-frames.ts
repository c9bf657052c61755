/** The stream of a chat: one `chat.completion.chunk` for each piece of a message. */

import type { KvEngineError } from "../errors.ts";
import { NO_LOGPROBS } from "../request.ts";
import { type Head, lastFields, usageJson } from "./answers.ts";
import type { ChatGeneration } from "./chat-generation.ts";
import type { ChoiceDelta, ChoiceTokens } from "./choice.ts";
import type { AppContext } from "./deps.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { MessagePiece } from "./message/piece.ts";
import { DONE, failFrames, type FrameWriter, frame } from "./sse.ts";

/** The parts that never change are made once. */
export class ChatFrames implements FrameWriter {
  readonly #context: AppContext;
  readonly #chat: ChatGeneration;
  /** Up to the opening bracket of `choices`. */
  readonly #opening: string;

  constructor(context: AppContext, head: Head, chat: ChatGeneration) {
    this.#context = context;
    this.#chat = chat;
    const fixed = JSON.stringify({
      id: head.id,
      object: "chat.completion.chunk",
      created: head.created,
      model: head.model,
      system_fingerprint: head.fingerprint,
    });
    this.#opening = `${fixed.slice(0, -1)},"choices":[`;
  }

  start(): string {
    const { request, generation, prompt } = this.#chat;
    const ids = request.returnTokenIds ? `,"prompt_token_ids":[${prompt.tokenIds.join(",")}]` : "";
    return generation.choices
      .map(({ index }) =>
        this.#chunk(
          `"index":${index},"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null`,
          index === 0 ? ids : "",
        ),
      )
      .join("");
  }

  delta(delta: ChoiceDelta): string {
    const { index, tokens, finish } = delta;
    let frames = "";
    let about = this.#tokens(tokens);
    for (const piece of this.#chat.piecesOf(delta)) {
      frames += this.#chunk(
        `"index":${index},"delta":${deltaJson(piece)},${about},"finish_reason":null`,
      );
      about = NO_TOKENS;
    }
    // Tokens may have no piece of their own yet, and are told all the same.
    if (frames === "" && tokens.tokenIds.length > 0)
      frames = this.#chunk(`"index":${index},"delta":{"content":""},${about},"finish_reason":null`);
    if (finish === undefined) return frames;
    const reason = this.#chat.finishReason(index, finish.reason);
    const stop = JSON.stringify(finish.stopReason);
    return (
      frames +
      this.#chunk(
        `"index":${index},"delta":{},"logprobs":null,"finish_reason":"${reason}","stop_reason":${stop}`,
      )
    );
  }

  end(): string {
    const { generation, request, reasoningTokens } = this.#chat;
    const fields = lastFields(generation, request, reasoningTokens);
    return (fields === "" ? "" : frame(`${this.#opening}]${fields}}`)) + DONE;
  }

  fail(error: KvEngineError): string {
    return failFrames(error);
  }

  #tokens(tokens: ChoiceTokens): string {
    const { topLogprobs, returnTokenIds } = this.#chat.request;
    const logprobs =
      topLogprobs === NO_LOGPROBS
        ? "null"
        : JSON.stringify(chatLogprobs(this.#context.deps.tokenizer, tokens));
    const ids = returnTokenIds ? `,"token_ids":[${tokens.tokenIds.join(",")}]` : "";
    return `"logprobs":${logprobs}${ids}`;
  }

  /** `fields`: behind `choices`. */
  #chunk(choice: string, fields = ""): string {
    return frame(`${this.#opening}{${choice}}]${this.#usage()}${fields}}`);
  }

  #usage(): string {
    const { generation, request, reasoningTokens } = this.#chat;
    if (request.continuousUsage)
      return `,"usage":${JSON.stringify(usageJson(generation.usage(), reasoningTokens))}`;
    return request.includeUsage ? ',"usage":null' : "";
  }
}

const NO_TOKENS = '"logprobs":null';

function deltaJson(piece: MessagePiece): string {
  switch (piece.kind) {
    case "content":
      return `{"content":${JSON.stringify(piece.text)}}`;
    case "reasoning": {
      const text = JSON.stringify(piece.text);
      // Clients are split over the name.
      return `{"reasoning":${text},"reasoning_content":${text}}`;
    }
    case "call": {
      const { index, id, name } = piece;
      const call = { index, id, type: "function", function: { name, arguments: "" } };
      return JSON.stringify({ tool_calls: [call] });
    }
    case "arguments":
      return JSON.stringify({
        tool_calls: [{ index: piece.index, function: { arguments: piece.text } }],
      });
  }
}
