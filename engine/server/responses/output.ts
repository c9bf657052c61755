/** The output of a response: items, put together from the pieces of a message, and the events that tell of them. */

import type { MessagePiece } from "../message/piece.ts";
import { newId } from "./ids.ts";

/** One event of a stream, without its number. */
export type ResponseEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** As JSON has it. */
type OutputItem = Readonly<Record<string, unknown>>;

type Status = "in_progress" | "completed" | "incomplete";

/** An item that is written. */
interface OpenItem {
  readonly kind: "reasoning" | "content" | "call";
  readonly id: string;
  readonly index: number;
  /** Text or arguments so far. */
  text: string;
  readonly logprobs: object[];
  readonly call?: { readonly id: string; readonly name: string };
}

export class ResponseOutput {
  /** Items that are whole, as JSON has them. */
  readonly items: OutputItem[] = [];
  #open: OpenItem | undefined;

  /** The next pieces; `logprobs` are of the text among them. */
  add(pieces: readonly MessagePiece[], logprobs: readonly object[]): ResponseEvent[] {
    let untold = logprobs;
    return pieces.flatMap((piece) => {
      const events = this.#begin(piece);
      const item = this.#open;
      if (item === undefined || piece.kind === "call") return events;
      const own = piece.kind === "content" ? untold : [];
      if (piece.kind === "content") untold = [];
      item.text += piece.text;
      item.logprobs.push(...own);
      return [...events, deltaEvent(item, piece.text, own)];
    });
  }

  /** Nothing more comes. An answer without anything is an empty message. */
  end(status: "completed" | "incomplete"): ResponseEvent[] {
    const events = this.items.length === 0 && this.#open === undefined ? this.#begin(EMPTY) : [];
    return [...events, ...this.#close(status)];
  }

  /** What is there so far, the item that is written included. */
  soFar(): OutputItem[] {
    return this.#open === undefined
      ? this.items
      : [...this.items, itemJson(this.#open, "incomplete")];
  }

  /** Opens an item for a piece, unless the open one goes on with it. */
  #begin(piece: MessagePiece): ResponseEvent[] {
    const kind = piece.kind === "arguments" ? "call" : piece.kind;
    if (piece.kind !== "call" && this.#open?.kind === kind) return [];
    const events = this.#close("completed");
    const item: OpenItem = {
      kind,
      id: newId(PREFIX[kind]),
      index: this.items.length,
      text: "",
      logprobs: [],
      ...(piece.kind === "call" ? { call: { id: piece.id, name: piece.name } } : {}),
    };
    this.#open = item;
    events.push({
      type: "response.output_item.added",
      output_index: item.index,
      item: itemJson(item, "in_progress"),
    });
    if (kind !== "call")
      events.push({ type: "response.content_part.added", ...place(item), part: partJson(item) });
    return events;
  }

  #close(status: "completed" | "incomplete"): ResponseEvent[] {
    const item = this.#open;
    if (item === undefined) return [];
    this.#open = undefined;
    const json = itemJson(item, status);
    this.items.push(json);
    return [
      ...doneEvents(item),
      { type: "response.output_item.done", output_index: item.index, item: json },
    ];
  }
}

const EMPTY: MessagePiece = { kind: "content", text: "" };
const PREFIX = { reasoning: "rs", content: "msg", call: "fc" } as const;

function place({ id, index }: OpenItem): object {
  return { item_id: id, output_index: index, content_index: 0 };
}

function deltaEvent(item: OpenItem, delta: string, logprobs: readonly object[]): ResponseEvent {
  switch (item.kind) {
    case "reasoning":
      return { type: "response.reasoning_text.delta", ...place(item), delta };
    case "content":
      return { type: "response.output_text.delta", ...place(item), delta, logprobs };
    case "call": {
      const { id, index } = item;
      const type = "response.function_call_arguments.delta";
      return { type, item_id: id, output_index: index, delta };
    }
  }
}

function doneEvents(item: OpenItem): ResponseEvent[] {
  const { text, id, index, logprobs } = item;
  if (item.kind === "call") {
    const type = "response.function_call_arguments.done";
    return [{ type, item_id: id, output_index: index, arguments: text }];
  }
  const done: ResponseEvent =
    item.kind === "reasoning"
      ? { type: "response.reasoning_text.done", ...place(item), text }
      : { type: "response.output_text.done", ...place(item), text, logprobs };
  return [done, { type: "response.content_part.done", ...place(item), part: partJson(item) }];
}

function partJson({ kind, text, logprobs }: OpenItem): object {
  return kind === "reasoning"
    ? { type: "reasoning_text", text }
    : { type: "output_text", text, annotations: [], logprobs };
}

function itemJson(item: OpenItem, status: Status): OutputItem {
  const { id, kind, text, call } = item;
  // While it is written an item's own parts are told by events.
  const content = status === "in_progress" ? [] : [partJson(item)];
  switch (kind) {
    case "reasoning":
      return { id, type: "reasoning", summary: [], content, status };
    case "content":
      return { id, type: "message", role: "assistant", status, content };
    case "call":
      return {
        id,
        type: "function_call",
        call_id: call?.id,
        name: call?.name,
        arguments: text,
        status,
      };
  }
}
