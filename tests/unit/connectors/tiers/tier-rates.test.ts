/** What a tier's loads are believed to cost: by what was measured, by stores before that, and tried again in the end. */

import { beforeEach, describe, expect, test } from "bun:test";
import { TierRates } from "../../../../engine/connectors/tiers/tier-rates.ts";

/** Bytes, so that a page in a millisecond is 1 MB/s. */
const PAGE = 1000;

let now: number;
let stores: TierRates;
let rates: TierRates;

beforeEach(() => {
  now = 100;
  stores = new TierRates(PAGE, () => now);
  rates = new TierRates(PAGE, () => now, stores);
});

/** Moves so many pages in pieces, each so long after the one before. */
function move(of: TierRates, pages: number, piece: number, msOfPiece: number): void {
  of.begun(pages);
  for (let done = 0; done < pages; done += piece) {
    now += msOfPiece;
    of.ended(piece, piece);
  }
}

describe("loads", () => {
  test("that come in pieces tell their rate by those behind the first, and what the first one waited", () => {
    rates.begun(32);
    now += 5;
    for (let piece = 0; piece < 4; piece++) {
      now += 8;
      rates.ended(8, 8);
    }
    expect(rates.bytesPerSecond).toBeCloseTo(1e6, -1);
    move(rates, 32, 8, 8);
    expect(rates.bytesPerSecond).toBeCloseTo(1e6, -1);
    expect(rates.latencyMs).toBeLessThan(13);
  });

  test("that come all at once tell their rate by the whole time", () => {
    move(rates, 32, 32, 64);
    expect(rates.bytesPerSecond).toBeCloseTo(0.5e6, -1);
    expect(rates.latencyMs).toBeCloseTo(0, 1);
  });

  test("of a few pages tell no rate", () => {
    move(rates, 1, 1, 500);
    expect(rates.bytesPerSecond).toBe(5e8);
    expect(rates.latencyMs).toBeCloseTo(500, 0);
  });

  test("that have not arrived tell nothing", () => {
    rates.begun(8);
    now += 1000;
    rates.ended(8, 0);
    expect([rates.bytesPerSecond, rates.latencyMs]).toEqual([5e8, 1]);
    expect(rates.queuedBytes).toBe(0);
  });
});

describe("before the first load", () => {
  test("nothing is known of a tier that stored nothing", () => {
    expect(rates.bytesPerSecond).toBe(5e8);
  });

  test("loads are believed to be as quick as stores", () => {
    move(stores, 32, 32, 64);
    expect(rates.bytesPerSecond).toBeCloseTo(0.5e6, -1);
  });

  test("what was measured counts more than stores, for a minute", () => {
    move(stores, 32, 32, 64);
    move(rates, 32, 8, 8);
    expect(rates.bytesPerSecond).toBeCloseTo(1e6, -1);
    now += 61_000;
    move(stores, 32, 32, 64);
    expect(rates.bytesPerSecond).toBeCloseTo(0.5e6, -1);
  });

  test("slow stores keep no load from being tried after ten minutes", () => {
    now += 600_001;
    move(stores, 32, 32, 3200);
    expect(rates.bytesPerSecond).toBe(5e8);
  });
});
