import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  decodeTokens,
  Detokenizer,
  type TokenBytes,
} from "../../../engine/tokenizer/detokenizer.ts";
import { TOKENIZER_CORPUS } from "../../support/tokenizer-corpus.ts";

/** Each id is one byte. */
const BYTES: TokenBytes = { tokenBytes: (id) => Uint8Array.of(id) };

function whole(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function inTwo(bytes: Uint8Array, cut: number): string {
  const detokenizer = new Detokenizer(BYTES);
  return (
    detokenizer.push(bytes.subarray(0, cut)) +
    detokenizer.push(bytes.subarray(cut)) +
    detokenizer.flush()
  );
}

describe("the detokenizer", () => {
  test("gives the whole text at every split point of the corpus", () => {
    for (const { text } of TOKENIZER_CORPUS) {
      const bytes = new TextEncoder().encode(text);
      for (let cut = 0; cut <= bytes.length; cut++) {
        const joined = inTwo(bytes, cut);
        if (joined !== text) expect({ cut, text: joined }).toEqual({ cut, text });
      }
    }
  });

  test("never gives half a character", () => {
    for (const { text } of TOKENIZER_CORPUS) {
      const detokenizer = new Detokenizer(BYTES);
      const characters: string[] = [];
      for (const byte of new TextEncoder().encode(text)) {
        const piece = detokenizer.push([byte]);
        if (piece !== "") characters.push(piece);
      }
      expect(characters).toEqual(Array.from(text));
      expect(detokenizer.flush()).toBe("");
    }
  });

  test("makes of invalid bytes what decoding them at once makes", () => {
    const awkward = fc.constantFrom(
      0x41,
      0x80,
      0xbf,
      0xc0,
      0xc3,
      0xa9,
      0xe2,
      0x82,
      0xac,
      0xed,
      0xa0,
      0xef,
      0xbb,
      0xf0,
      0x9f,
      0x98,
      0xf4,
      0x90,
      0xff,
    );
    fc.assert(
      fc.property(fc.array(awkward, { maxLength: 12 }), (values) => {
        const bytes = Uint8Array.from(values);
        const expected = whole(bytes);
        for (let cut = 0; cut <= bytes.length; cut++) expect(inTwo(bytes, cut)).toBe(expected);
        const detokenizer = new Detokenizer(BYTES);
        let text = "";
        for (const byte of bytes) text += detokenizer.push([byte]);
        expect(text + detokenizer.flush()).toBe(expected);
      }),
      { seed: 6, numRuns: 3000 },
    );
  });

  test("gives U+FFFD for a character that never ends", () => {
    const detokenizer = new Detokenizer(BYTES);
    expect(detokenizer.push([0x61, 0xf0, 0x9f, 0x98])).toBe("a");
    expect(detokenizer.flush()).toBe("\ufffd");
  });

  test("starts afresh after a flush", () => {
    const detokenizer = new Detokenizer(BYTES);
    detokenizer.push([0xe2, 0x82]);
    detokenizer.flush();
    expect(detokenizer.push([0xac, 0x61])).toBe("\ufffda");
  });

  test("keeps U+FEFF at the start", () => {
    expect(decodeTokens(BYTES, [0xef, 0xbb, 0xbf, 0x61])).toBe("\ufeffa");
  });

  test("gives nothing for tokens without bytes, also inside a character", () => {
    const tokens: TokenBytes = {
      tokenBytes: (id) => (id === 256 ? new Uint8Array(0) : Uint8Array.of(id)),
    };
    expect(decodeTokens(tokens, [256, 0xc3, 256, 0xa9, 256])).toBe("é");
  });
});
