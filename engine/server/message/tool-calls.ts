/** Calls of tools told apart from the text around them. What is no call of a given tool is text, as it was written. */

import type { CallFormat } from "./call-formats.ts";
import type { CallReader } from "./call-reader.ts";
import { findMark, startOfPartialMark, startOfTrailingSpace } from "./marks.ts";
import type { MessagePiece, PieceReader } from "./piece.ts";

export interface ToolCallOptions {
  /** Names of the tools that may be called. */
  readonly tools: ReadonlySet<string>;
  /** Whether more than one call is told; else what follows the first is dropped. */
  readonly parallel: boolean;
}

export class ToolCallReader implements PieceReader {
  readonly #format: CallFormat;
  readonly #options: ToolCallOptions;
  /** In text; in a row of calls, between two of them; in a call; behind the only call that is told. */
  #place: "text" | "row" | "call" | "ended" = "text";
  /** What was not read yet: it may become a mark, or white space before one. */
  #pending = "";
  /** What is text after all, should no call come: the mark and what followed it. */
  #held = "";
  /** Whether nothing but white space has come: an answer may begin with a call that has no mark. */
  #isStart = true;
  /** Whether the row began without a mark. */
  #isBare = false;
  /** Whether the row has had a call. */
  #hasCalled = false;
  #call: CallReader | undefined;
  /** Characters of the call's arguments that were told; undefined before its name was. */
  #told: number | undefined;
  #numCalls = 0;

  constructor(format: CallFormat, options: ToolCallOptions) {
    this.#format = format;
    this.#options = options;
  }

  /** Calls so far. */
  get numCalls(): number {
    return this.#numCalls;
  }

  push(text: string): MessagePiece[] {
    const pieces: MessagePiece[] = [];
    let unread = this.#pending + text;
    this.#pending = "";
    while (unread !== "") {
      const length = this.#read(unread, pieces);
      if (length === 0) {
        this.#pending = unread;
        break;
      }
      unread = unread.slice(length);
    }
    return pieces;
  }

  end(): MessagePiece[] {
    const left = this.#held + this.#pending;
    [this.#held, this.#pending] = ["", ""];
    // A call that was told stays told, though it was cut off.
    if (this.#told !== undefined || (this.#hasCalled && this.#isPunctuation(left))) return [];
    return content(left);
  }

  /** Reads on at the beginning of `text`. Returns how much it read; 0 = more has to come first. */
  #read(text: string, pieces: MessagePiece[]): number {
    switch (this.#place) {
      case "text":
        return this.#readText(text, pieces);
      case "row":
        return this.#readRow(text, pieces);
      case "call":
        return this.#readCall(text, pieces);
      case "ended":
        return text.length;
    }
  }

  /** Up to the next mark; white space before a call is nobody's. */
  #readText(text: string, pieces: MessagePiece[]): number {
    const { open, bare } = this.#format;
    const begun = text.trimStart();
    if (this.#isStart && begun !== "" && bare.includes(begun.charAt(0))) {
      const space = text.slice(0, text.length - begun.length);
      this.#enterRow(space, true);
      // A read of nothing would be taken for one that waits.
      return space.length > 0 ? space.length : this.#readRow(text, pieces);
    }
    const found = findMark(text, open);
    const end = found?.at ?? startOfPartialMark(text, open);
    const safe = startOfTrailingSpace(text.slice(0, end));
    if (safe > 0) {
      this.#isStart = false;
      pieces.push(...content(text.slice(0, safe)));
    }
    if (found === undefined) return safe;
    const length = found.at + found.mark.length;
    this.#enterRow(text.slice(safe, length), false);
    return length;
  }

  #enterRow(held: string, isBare: boolean): void {
    this.#place = "row";
    this.#held = held;
    this.#isBare = isBare;
    this.#isStart = false;
    this.#hasCalled = false;
  }

  /** Marks, brackets, commas and white space up to the next call. */
  #readRow(text: string, pieces: MessagePiece[]): number {
    const { open, close, between, begin } = this.#format;
    const marks = [...open, ...close];
    if (marks.some((one) => one.length > text.length && one.startsWith(text))) return 0;
    const mark = findMark(text, marks);
    if (mark?.at === 0) {
      this.#held += mark.mark;
      if (close.includes(mark.mark)) this.#leaveRow(pieces);
      return mark.mark.length;
    }
    const char = text.charAt(0);
    this.#call = begin(char, this.#isBare);
    if (this.#call !== undefined) {
      this.#place = "call";
      this.#told = undefined;
      return this.#readCall(text, pieces);
    }
    if (/\s/.test(char) || between.includes(char)) {
      this.#held += char;
      return 1;
    }
    this.#leaveRow(pieces);
    return this.#readText(text, pieces);
  }

  /** Whether a text is nothing but what may stand between calls. */
  #isPunctuation(text: string): boolean {
    const { open, close, between } = this.#format;
    const rest = [...open, ...close].reduce((left, mark) => left.replaceAll(mark, ""), text);
    return Array.from(rest).every((char) => /\s/.test(char) || between.includes(char));
  }

  /** Back to text. A row without a call was none. */
  #leaveRow(pieces: MessagePiece[]): void {
    if (!this.#hasCalled) pieces.push(...content(this.#held));
    this.#held = "";
    this.#place = "text";
  }

  #readCall(text: string, pieces: MessagePiece[]): number {
    const call = this.#call;
    if (call === undefined) throw new Error("no call is read");
    let length = 0;
    while (length < text.length && call.state === "open" && this.#isWanted(call)) {
      call.push(text.charAt(length));
      this.#held += text.charAt(length);
      length++;
      // At the very character, so that what is told does not depend on how the text was cut.
      if (this.#told === undefined && this.#isWanted(call)) this.#tell(call, pieces);
    }
    if (!this.#isWanted(call) || (call.state === "broken" && this.#told === undefined)) {
      this.#leaveRow(pieces);
      return length;
    }
    this.#tell(call, pieces);
    if (call.state !== "open") this.#endCall();
    return length;
  }

  /** A name that no tool has makes it text. */
  #isWanted({ name }: CallReader): boolean {
    return name === undefined || this.#options.tools.has(name);
  }

  #tell(call: CallReader, pieces: MessagePiece[]): void {
    if (call.name === undefined) return;
    if (this.#told === undefined) {
      const index = this.#numCalls++;
      pieces.push({ kind: "call", index, id: this.#format.newId(), name: call.name });
      this.#told = 0;
      this.#hasCalled = true;
    }
    const more = call.args.slice(this.#told);
    this.#told = call.args.length;
    if (more !== "") pieces.push({ kind: "arguments", index: this.#numCalls - 1, text: more });
  }

  #endCall(): void {
    this.#call = undefined;
    this.#told = undefined;
    this.#held = "";
    this.#place = this.#options.parallel ? "row" : "ended";
  }
}

function content(text: string): MessagePiece[] {
  return text === "" ? [] : [{ kind: "content", text }];
}
