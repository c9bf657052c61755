/** What an assistant's answer is made of, in the order in which it is told. */

export type MessagePiece =
  | { readonly kind: "content" | "reasoning"; readonly text: string }
  /** A call begins; its arguments follow. Calls are numbered from 0. */
  | { readonly kind: "call"; readonly index: number; readonly id: string; readonly name: string }
  /** The next part of the arguments of a call: all parts joined are JSON. */
  | { readonly kind: "arguments"; readonly index: number; readonly text: string };

/** Reads one part of a message. The pieces, joined, do not depend on how the text was cut. */
export interface PieceReader {
  /** What is certain after this text. */
  push(text: string): MessagePiece[];
  /** What was kept back, once no more will come. */
  end(): MessagePiece[];
}
