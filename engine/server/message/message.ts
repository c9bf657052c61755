/** A whole message, put together from its pieces. */

import type { MessagePiece } from "./piece.ts";

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON, unless the answer was cut off inside it. */
  args: string;
}

export class Message {
  content = "";
  reasoning = "";
  readonly calls: ToolCall[] = [];

  add(pieces: readonly MessagePiece[]): void {
    for (const piece of pieces) {
      if (piece.kind === "content") this.content += piece.text;
      if (piece.kind === "reasoning") this.reasoning += piece.text;
      if (piece.kind === "call") this.calls.push({ id: piece.id, name: piece.name, args: "" });
      if (piece.kind === "arguments") this.#callAt(piece.index).args += piece.text;
    }
  }

  #callAt(index: number): ToolCall {
    const call = this.calls[index];
    if (call === undefined) throw new Error(`arguments of call ${index} came before it`);
    return call;
  }
}
