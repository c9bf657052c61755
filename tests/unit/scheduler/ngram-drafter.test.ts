import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { NgramDrafter } from "../../../engine/scheduler/ngram-drafter.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

/** Its drafts are as long as they may be, and it never falls silent, as long as it is told that all were right. */
function drafterOf(
  tokens: readonly number[],
  options: { maxDraft?: number; minNgram?: number; maxNgram?: number } = {},
): NgramDrafter {
  const drafter = new NgramDrafter({ maxDraft: 4, minNgram: 2, maxNgram: 4, ...options });
  drafter.append(Int32Array.from(tokens), 0, tokens.length);
  return drafter;
}

function lengthOfDraft(drafter: NgramDrafter, limit = 100): number {
  return drafter.propose(limit).length;
}

/** Ends of the earlier occurrences of the `n` tokens that end at `end`, the most recent first. */
function occurrences(tokens: readonly number[], n: number, end: number): number[] {
  const found: number[] = [];
  for (let other = end - 1; other >= n; other--) {
    let same = true;
    for (let back = 1; back <= n; back++) same &&= tokens[other - back] === tokens[end - back];
    if (same) found.push(other);
  }
  return found;
}

function plainDraft(tokens: readonly number[], min: number, max: number, count: number): number[] {
  for (let n = Math.min(max, tokens.length); n >= min; n--) {
    const [from] = occurrences(tokens, n, tokens.length);
    if (from === undefined) continue;
    const grown = [...tokens];
    while (grown.length < tokens.length + count)
      grown.push(grown[from + grown.length - tokens.length]!);
    return grown.slice(tokens.length);
  }
  return [];
}

function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Generates `output` as a server does, asking for drafts behind each token; answers the steps that it took. */
function generate(drafter: NgramDrafter, prompt: readonly number[], output: readonly number[]) {
  const all = Int32Array.from([...prompt, ...output]);
  drafter.append(all, 0, prompt.length);
  let steps = 0;
  for (let at = prompt.length; at < all.length; steps++) {
    const draft = drafter.propose(all.length - at - 1);
    let accepted = 0;
    while (accepted < draft.length && draft[accepted] === all[at + accepted]) accepted++;
    drafter.verified(draft.length, accepted);
    drafter.append(all, at, at + accepted + 1);
    at += accepted + 1;
  }
  return { steps, ...drafter.stats };
}

describe("a draft", () => {
  test("is what followed the last tokens when they stood here before", () => {
    expect([...drafterOf([1, 2, 3, 4, 5, 6, 9, 1, 2]).propose(100)]).toEqual([3, 4, 5, 6]);
  });

  test("follows the longest n-gram that has occurred, not the latest shorter one", () => {
    expect([...drafterOf([5, 1, 2, 7, 8, 9, 1, 2, 6, 6, 5, 1, 2]).propose(2)]).toEqual([7, 8]);
  });

  test("follows the most recent one of several", () => {
    expect([...drafterOf([1, 2, 3, 0, 1, 2, 4, 0, 9, 1, 2]).propose(1)]).toEqual([4]);
  });

  test("goes on in itself where the occurrence reaches the end", () => {
    expect([...drafterOf([7, 7, 7]).propose(100)]).toEqual([7, 7, 7, 7]);
    expect([...drafterOf([1, 2, 3, 1, 2, 3]).propose(100)]).toEqual([1, 2, 3, 1]);
  });

  test("is empty when nothing has occurred, and for a limit of 0", () => {
    expect(lengthOfDraft(drafterOf([1, 2, 3, 4]))).toBe(0);
    expect(lengthOfDraft(drafterOf([1, 2, 1, 2]), 0)).toBe(0);
    expect(lengthOfDraft(drafterOf([1, 2, 1, 2]), -3)).toBe(0);
    expect(lengthOfDraft(drafterOf([1, 2, 1, 2]), 3)).toBe(3);
  });

  test.each([
    ["no tokens", []],
    ["one token", [1]],
    ["fewer tokens than the shortest n-gram", [1, 1]],
  ])("is empty for a sequence of %s", (_, tokens) => {
    const drafter = drafterOf(tokens, { minNgram: 3, maxNgram: 5 });
    expect(lengthOfDraft(drafter)).toBe(0);
    expect(drafter.mayPropose()).toBe(false);
  });

  test("of one token behind one token is the smallest setting", () => {
    const options = { maxDraft: 1, minNgram: 1, maxNgram: 1 };
    expect([...drafterOf([3, 8, 3], options).propose(100)]).toEqual([8]);
    expect(drafterOf([3], options).mayPropose()).toBe(true);
    const drafter = drafterOf([3, 8, 3], options);
    drafter.verified(1, 1);
    expect(lengthOfDraft(drafter)).toBe(1);
  });

  test("is what the plain quadratic search finds, however the tokens arrive", () => {
    const settings = fc.record({
      minNgram: fc.integer({ min: 1, max: 3 }),
      more: fc.nat(3),
      maxDraft: fc.integer({ min: 1, max: 4 }),
      vocabulary: fc.constantFrom(2, 3, 6, 40),
      seed: fc.nat(),
      pieces: fc.array(fc.integer({ min: 1, max: 9 }), {
        minLength: 1,
        maxLength: 20,
        size: "max",
      }),
    });
    fc.assert(
      fc.property(settings, ({ minNgram, more, maxDraft, vocabulary, seed, pieces }) => {
        const random = randomOf(seed);
        const maxNgram = minNgram + more;
        const drafter = new NgramDrafter({ maxDraft, minNgram, maxNgram });
        const tokens: number[] = [];
        for (const piece of pieces) {
          const from = tokens.length;
          for (let i = 0; i < piece; i++) tokens.push(random(vocabulary));
          drafter.append(Int32Array.from(tokens), from, tokens.length);
          const draft = [...drafter.propose(100)];
          expect(draft).toEqual(plainDraft(tokens, minNgram, maxNgram, maxDraft));
          // Whether some next token would have a draft behind it.
          const possible = tokens
            .concat(-1)
            .some((next) => plainDraft([...tokens, next], minNgram, maxNgram, 1).length > 0);
          expect(drafter.mayPropose()).toBe(possible);
          // Praise keeps it from falling silent; `maxDraft` is at most the first length.
          drafter.verified(1, 1);
        }
      }),
      propertyRuns(400),
    );
  });

  test("is the same as the plain search's over thousands of tokens, in little memory", () => {
    const random = randomOf(5);
    const tokens = Array.from({ length: 3000 }, () => random(200));
    const drafter = drafterOf(tokens, { minNgram: 2, maxNgram: 4 });
    expect(drafter.numBytes / tokens.length).toBeLessThan(40);
    const all = Int32Array.from(tokens);
    for (let end = 3000; end < 3100; end++) {
      const grown = Int32Array.from([...all, ...tokens.slice(100, 100 + end - 2999)]);
      drafter.append(grown, end, end + 1);
      const plain = plainDraft([...grown], 2, 4, 4);
      expect([...drafter.propose(4)]).toEqual(plain);
      drafter.verified(1, 1);
    }
  });
});

describe("whether a draft may follow the next token", () => {
  test("depends on whether the known part of the shortest n-gram has occurred", () => {
    expect(drafterOf([1, 2, 3]).mayPropose()).toBe(false);
    expect(drafterOf([1, 2, 3, 1]).mayPropose()).toBe(true);
    expect(drafterOf([1, 1]).mayPropose()).toBe(true);
    expect(drafterOf([1, 2, 3, 2], { minNgram: 3 }).mayPropose()).toBe(false);
    expect(drafterOf([1, 2, 3, 1, 2], { minNgram: 3 }).mayPropose()).toBe(true);
  });
});

describe("the length of drafts", () => {
  const tokens = Array.from({ length: 60 }, (_, i) => i % 30);

  test("doubles up to the most while all tokens are right, and shrinks towards what is right", () => {
    const drafter = drafterOf(tokens, { maxDraft: 20 });
    const lengths: number[] = [];
    for (const accepted of [4, 8, 16, 20, 20, 6, 2]) {
      const { length } = drafter.propose(100);
      lengths.push(length);
      drafter.verified(length, Math.min(accepted, length));
    }
    lengths.push(lengthOfDraft(drafter));
    expect(lengths).toEqual([4, 8, 16, 20, 20, 20, 13, 8]);
  });

  test("does not grow by drafts that a limit has cut", () => {
    const drafter = drafterOf(tokens, { maxDraft: 20 });
    for (let i = 0; i < 5; i++) drafter.verified(lengthOfDraft(drafter, 2), 2);
    expect(lengthOfDraft(drafter)).toBe(4);
  });

  test("is 1 at least", () => {
    const drafter = drafterOf(tokens);
    drafter.verified(4, 0);
    drafter.verified(2, 0);
    expect(lengthOfDraft(drafter)).toBe(1);
  });
});

describe("falling silent", () => {
  const random = randomOf(77);
  const text = Array.from({ length: 2000 }, () => random(5000));

  test("copied text is drafted in long runs", () => {
    const prompt = text.slice(0, 400);
    const output = [...text.slice(100, 300), ...text.slice(0, 200)];
    const run = generate(
      new NgramDrafter({ maxDraft: 16, minNgram: 2, maxNgram: 4 }),
      prompt,
      output,
    );
    expect(run.steps).toBeLessThan(output.length / 8);
    expect(run.acceptedTokens / run.draftTokens).toBeGreaterThan(0.85);
    expect(run.silences).toBe(0);
  });

  test("text that repeats by chance only costs few drafts", () => {
    // Of 30 tokens nearly every pair has occurred, and what followed says nothing.
    const random = randomOf(3);
    const noise = Array.from({ length: 3000 }, () => random(30));
    const run = generate(
      new NgramDrafter({ maxDraft: 8, minNgram: 2, maxNgram: 4 }),
      noise.slice(0, 1000),
      noise.slice(1000),
    );
    expect(run.silences).toBeGreaterThan(3);
    expect(run.drafts).toBeLessThan(2000 * 0.03);
    expect(run.draftTokens).toBeLessThan(2000 * 0.05);
  });

  test("it also does where nothing is found, since steps have waited for that", () => {
    const drafter = new NgramDrafter({ maxDraft: 8, minNgram: 2, maxNgram: 4 });
    // Two kinds of tokens alternate: what may follow the second kind is always worth a wait, and never found.
    const tokens = Int32Array.from({ length: 2000 }, (_, i) => (i % 2 === 0 ? 1 : 1000 + i));
    let waits = 0;
    for (let end = 1; end < 2000; end++) {
      drafter.append(tokens, end - 1, end);
      if (drafter.mayPropose()) waits++;
      drafter.propose(8);
    }
    expect(drafter.stats.drafts).toBe(0);
    expect(waits).toBeLessThan(60);
  });

  test("lasts 16 tokens, then twice as long each time up to 256, until drafts are right again", () => {
    const loop = Int32Array.from({ length: 6000 }, (_, i) => i % 7);
    const drafter = new NgramDrafter({ maxDraft: 4, minNgram: 2, maxNgram: 3 });
    drafter.append(loop, 0, 20);
    let end = 20;
    const silences: number[] = [];
    const fail = (): void => {
      const { silences: before } = drafter.stats;
      while (drafter.stats.silences === before) drafter.verified(2, 0);
      const from = end;
      while (lengthOfDraft(drafter) === 0) {
        expect(drafter.mayPropose()).toBe(false);
        drafter.append(loop, end, ++end);
      }
      silences.push(end - from);
      expect(drafter.mayPropose()).toBe(true);
    };
    for (let i = 0; i < 7; i++) fail();
    for (let i = 0; i < 5; i++) drafter.verified(2, 2);
    fail();
    expect(silences).toEqual([16, 32, 64, 128, 256, 256, 256, 16]);
  });

  test("one draft that is wrong after a silence is enough for the next one", () => {
    const drafter = drafterOf(Array.from({ length: 60 }, (_, i) => i % 30));
    while (drafter.stats.silences === 0) drafter.verified(4, 0);
    expect(drafter.stats.drafts).toBeLessThan(5);
    drafter.verified(1, 0);
    expect(drafter.stats.silences).toBe(2);
  });

  test("asking twice at the same place counts once", () => {
    const drafter = drafterOf([1, 2, 3, 4, 5]);
    for (let i = 0; i < 1000; i++) drafter.propose(4);
    expect(drafter.stats.silences).toBe(0);
  });

  test("a draft of no tokens is no draft", () => {
    const drafter = drafterOf([1, 2, 3]);
    drafter.verified(0, 0);
    expect(drafter.stats).toEqual({ drafts: 0, draftTokens: 0, acceptedTokens: 0, silences: 0 });
  });
});

test("a text made to collide loses drafts, not time", () => {
  // Tokens whose hash has the same low bits: multiples of a large power of two.
  const tokens = Int32Array.from({ length: 20_000 }, (_, i) => ((i * 7919) % 4096) << 18);
  const drafter = new NgramDrafter({ maxDraft: 4, minNgram: 1, maxNgram: 1 });
  drafter.append(tokens, 0, tokens.length);
  for (const token of drafter.propose(4)) expect(tokens.includes(token)).toBe(true);
});
