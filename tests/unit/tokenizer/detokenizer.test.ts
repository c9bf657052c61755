import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  decodeTokens,
  Detokenizer,
  type TokenBytes,
  wholeText,
} from "../../../engine/tokenizer/detokenizer.ts";
import { TOKENIZER_CORPUS } from "../../support/tokenizer-corpus.ts";

function tokensOf(tokenBytes: (id: number) => Uint8Array): TokenBytes {
  const texts = Array.from({ length: 257 }, (_, id) => wholeText(tokenBytes(id)));
  return { tokenBytes, tokenText: (id) => texts[id] };
}

/** Each id is one byte. */
const BYTES = tokensOf((id) => Uint8Array.of(id));

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

  test("gives the same for tokens of several bytes, whole characters and parts of them", () => {
    const pieces = ["", "41", "6162", "c3", "a9", "c3a9", "41c3", "a941", "e282", "82ac", "e282ac"]
      .concat(["f09f", "9880", "f09f9880", "80", "ff", "efbbbf", "e2", "eda080"])
      .map((hex) => Uint8Array.fromHex(hex));
    const tokens = tokensOf((id) => pieces[id] ?? new Uint8Array(0));
    fc.assert(
      fc.property(fc.array(fc.nat(pieces.length - 1), { maxLength: 10 }), (ids) => {
        const joined = (some: readonly number[]): Uint8Array =>
          Buffer.concat(some.map((id) => pieces[id] as Uint8Array));
        const detokenizer = new Detokenizer(tokens);
        let text = "";
        for (const [at, id] of ids.entries()) {
          text += detokenizer.push([id]);
          // No later than a decoder that sees every byte.
          const soFar = joined(ids.slice(0, at + 1));
          const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
          expect(text).toBe(decoder.decode(soFar, { stream: true }));
        }
        expect(text + detokenizer.flush()).toBe(whole(joined(ids)));
      }),
      { seed: 7, numRuns: 5000 },
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
    const tokens = tokensOf((id) => (id === 256 ? new Uint8Array(0) : Uint8Array.of(id)));
    expect(decodeTokens(tokens, [256, 0xc3, 256, 0xa9, 256])).toBe("é");
  });
});
