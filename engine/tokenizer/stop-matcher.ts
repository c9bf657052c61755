/** Finds stop strings in a text that comes in pieces, and keeps back what may still become one. */

import { KvEngineError } from "../errors.ts";

export interface StopPush {
  /** Text that is certainly before any stop string. */
  readonly text: string;
  /** The stop string that ended the text; what it matched is in no `text`. */
  readonly matched?: string;
}

/**
 * The text ends at the stop string that is complete first, as if it came one character at a time; of several complete
 * at the same character, the longest. So the answer does not depend on how the text was cut into pieces. Text is kept
 * back only while it is the beginning of a stop string.
 */
export class StopMatcher {
  private readonly stops: readonly StopProgress[];
  private held = "";
  private matched: string | undefined;

  /** Throws `invalid_request` for an empty stop string: it would end every text before its start. */
  constructor(stops: readonly string[]) {
    if (stops.includes("")) {
      throw new KvEngineError("invalid_request", "stop: a stop string must not be empty", {
        subject: "stop",
      });
    }
    this.stops = stops.map((stop) => new StopProgress(stop));
  }

  /** After a match nothing more comes out. */
  push(text: string): StopPush {
    if (this.matched !== undefined) return { text: "", matched: this.matched };
    const pending = this.held + text;
    for (let at = this.held.length; at < pending.length; at++) {
      const ended = this.advance(pending.charCodeAt(at));
      if (ended === undefined) continue;
      this.matched = ended;
      this.held = "";
      return { text: pending.slice(0, at + 1 - ended.length), matched: ended };
    }
    let end = pending.length;
    for (const stop of this.stops) end = Math.min(end, pending.length - stop.length);
    // Half a character is never let out.
    if (isHighSurrogate(pending.charCodeAt(end - 1))) end--;
    this.held = pending.slice(end);
    return { text: pending.slice(0, end) };
  }

  /** The text that was kept back, once no more will come. */
  flush(): string {
    const text = this.held;
    this.held = "";
    for (const stop of this.stops) stop.reset();
    return text;
  }

  /** The longest stop string that this character completes. */
  private advance(char: number): string | undefined {
    let ended: string | undefined;
    for (const stop of this.stops) {
      if (stop.advance(char) && stop.text.length > (ended?.length ?? 0)) ended = stop.text;
    }
    return ended;
  }
}

/** How much of one stop string the text so far ends with (Knuth, Morris and Pratt). */
class StopProgress {
  readonly text: string;
  /** Characters of the stop string that the text ends with; less than all of them. */
  length = 0;
  /** For each length, the next shorter one that the text then also ends with. */
  private readonly shorter: Int32Array;

  constructor(text: string) {
    this.text = text;
    this.shorter = new Int32Array(text.length);
    for (let at = 1, length = 0; at < text.length; at++) {
      this.shorter[at] = length;
      while (length > 0 && text.charCodeAt(at) !== text.charCodeAt(length))
        length = this.shorter[length] ?? 0;
      if (text.charCodeAt(at) === text.charCodeAt(length)) length++;
    }
  }

  /** Whether this character completes it. */
  advance(char: number): boolean {
    while (this.length > 0 && this.text.charCodeAt(this.length) !== char)
      this.length = this.shorter[this.length] ?? 0;
    if (this.text.charCodeAt(this.length) === char) this.length++;
    return this.length === this.text.length;
  }

  reset(): void {
    this.length = 0;
  }
}

function isHighSurrogate(char: number): boolean {
  return char >= 0xd800 && char <= 0xdbff;
}
