import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { StopMatcher } from "../../../engine/tokenizer/stop-matcher.ts";

interface Outcome {
  readonly text: string;
  readonly matched: string | undefined;
}

/** What the whole text says: the stop string whose first occurrence ends first; of several, the longest. */
function naive(text: string, stops: readonly string[]): Outcome {
  let end = Infinity;
  let matched: string | undefined;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    const ends = at + stop.length;
    if (ends < end || (ends === end && stop.length > (matched?.length ?? 0))) {
      end = ends;
      matched = stop;
    }
  }
  return { text: matched === undefined ? text : text.slice(0, end - matched.length), matched };
}

function inPieces(pieces: readonly string[], stops: readonly string[]): Outcome {
  const matcher = new StopMatcher(stops);
  let text = "";
  for (const piece of pieces) {
    const pushed = matcher.push(piece);
    text += pushed.text;
    if (pushed.matched !== undefined) return { text, matched: pushed.matched };
  }
  return { text: text + matcher.flush(), matched: undefined };
}

/** Characters that are kept back after `text`: the longest end of it that begins a stop string. */
function naiveHeld(text: string, stops: readonly string[]): number {
  for (let length = text.length; length > 0; length--) {
    const end = text.slice(-length);
    if (stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
  }
  return 0;
}

/** Few letters, so that stop strings overlap themselves and each other. */
const letters = (max: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom("a", "b", "\n", "é", "😀"), minLength: 1, maxLength: max });
const stopStrings: fc.Arbitrary<string[]> = fc.array(letters(5), { minLength: 1, maxLength: 4 });

describe("the stop matcher", () => {
  test("gives what the whole text says, wherever the text is cut in two", () => {
    fc.assert(
      fc.property(letters(24), stopStrings, (text, stops) => {
        const expected = naive(text, stops);
        for (let cut = 0; cut <= text.length; cut++) {
          expect(inPieces([text.slice(0, cut), text.slice(cut)], stops)).toEqual(expected);
        }
      }),
      { seed: 3, numRuns: 2000 },
    );
  });

  test("gives what the whole text says when the text comes one character at a time", () => {
    fc.assert(
      fc.property(letters(40), stopStrings, (text, stops) => {
        expect(inPieces(Array.from(text), stops)).toEqual(naive(text, stops));
        expect(inPieces(text.split(""), stops)).toEqual(naive(text, stops));
      }),
      { seed: 4, numRuns: 2000 },
    );
  });

  test("keeps back no more than may become a stop string", () => {
    fc.assert(
      fc.property(fc.array(letters(6), { maxLength: 6 }), stopStrings, (pieces, stops) => {
        const matcher = new StopMatcher(stops);
        let seen = "";
        let out = "";
        for (const piece of pieces) {
          const pushed = matcher.push(piece);
          if (pushed.matched !== undefined) return;
          seen += piece;
          out += pushed.text;
          expect(seen.length - out.length).toBe(naiveHeld(seen, stops));
          expect(seen.startsWith(out)).toBe(true);
        }
      }),
      { seed: 5, numRuns: 2000 },
    );
  });

  test("lets text through at once where nothing can begin a stop string", () => {
    const matcher = new StopMatcher(["END"]);
    expect(matcher.push("hello ")).toEqual({ text: "hello " });
    expect(matcher.push("E")).toEqual({ text: "" });
    expect(matcher.push("N")).toEqual({ text: "" });
    expect(matcher.push("O")).toEqual({ text: "ENO" });
    expect(matcher.flush()).toBe("");
  });

  test("ends at the stop string that is complete first, the longest of several", () => {
    expect(inPieces(["xabcd"], ["abcd", "bc"])).toEqual({ text: "xa", matched: "bc" });
    expect(inPieces(["xabc"], ["bc", "abc", "c"])).toEqual({ text: "x", matched: "abc" });
  });

  test("finds a stop string that begins inside a failed beginning of it", () => {
    expect(inPieces(["aab", "aabaa", "c"], ["aabaac"])).toEqual({ text: "aab", matched: "aabaac" });
  });

  test("says nothing more after a match", () => {
    const matcher = new StopMatcher(["!"]);
    expect(matcher.push("a!b")).toEqual({ text: "a", matched: "!" });
    expect(matcher.push("c")).toEqual({ text: "", matched: "!" });
    expect(matcher.flush()).toBe("");
  });

  test("never lets half a character out", () => {
    const matcher = new StopMatcher(["😀!"]);
    expect(matcher.push("x\ud83d")).toEqual({ text: "x" });
    expect(matcher.push("\ude01")).toEqual({ text: "😁" });
    expect(matcher.push("😀")).toEqual({ text: "" });
    expect(matcher.flush()).toBe("😀");
  });

  test("passes everything without stop strings", () => {
    expect(inPieces(["a", "", "b😀"], [])).toEqual({ text: "ab😀", matched: undefined });
  });

  test("refuses an empty stop string", () => {
    expect(() => new StopMatcher(["a", ""])).toThrow("stop: a stop string must not be empty");
  });
});
