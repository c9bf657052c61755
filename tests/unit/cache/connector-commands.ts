/** What requests, transfers, the clock and two connectors may do to a pool, in any order, wrong calls included. */

import * as fc from "fast-check";

export const MOST_BLOCKS = 10;

export type RequestCommand =
  | { readonly kind: "allocate"; readonly count: number }
  /** A step fills a table; with `ahead` it has not committed. */
  | {
      readonly kind: "fill";
      readonly pick: number;
      readonly number: number;
      readonly group: number;
      readonly ahead: number;
    }
  | { readonly kind: "freeTable"; readonly pick: number }
  | { readonly kind: "commit" }
  | { readonly kind: "withdraw"; readonly id: number }
  | { readonly kind: "reset"; readonly now: number }
  | { readonly kind: "press"; readonly isPressed: boolean; readonly spare: number }
  | { readonly kind: "fly"; readonly ids: readonly number[] }
  | { readonly kind: "land"; readonly pick: number }
  | { readonly kind: "wait"; readonly ms: number };

/** By a connector, or by the engine with one: `who` is 0 or 1. */
export type ConnectorCommand = { readonly who: number } & (
  | { readonly kind: "expire" }
  | { readonly kind: "recall"; readonly after: number }
  | { readonly kind: "disable"; readonly now: number }
  | { readonly kind: "touch"; readonly ids: readonly number[] }
  | { readonly kind: "free"; readonly ids: readonly number[] }
  | { readonly kind: "freeTouched"; readonly pick: number; readonly count: number }
  | { readonly kind: "lease"; readonly ids: readonly number[]; readonly ttl: number }
  | { readonly kind: "renew"; readonly pick: number; readonly ttl: number | undefined }
  | { readonly kind: "release"; readonly pick: number }
  | { readonly kind: "markSafe"; readonly ids: readonly number[] }
  | { readonly kind: "clearSafe"; readonly numbers: readonly number[] }
  | { readonly kind: "iterate"; readonly within: number }
  | { readonly kind: "next"; readonly count: number }
  | { readonly kind: "endIteration" }
);

export type Command = RequestCommand | ConnectorCommand;

const pick = fc.nat(99);
const who = fc.nat(1);
const block = fc.integer({ min: 1, max: MOST_BLOCKS - 1 });
/** Mostly blocks, at times what is none; an id may be named twice. In a smaller pool higher ids stand for lower ones. */
const ids = fc.array(
  fc.oneof(
    { weight: 60, arbitrary: block },
    { weight: 1, arbitrary: fc.constantFrom(0, -1, MOST_BLOCKS + 1, 1.5, Number.NaN) },
  ),
  { maxLength: 4 },
);
const ttl = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 1, max: 12 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, -5, Number.NaN, 86_400_001) },
);
const number = fc.nat(4);

type Fields<K extends Command["kind"]> = Omit<Extract<Command, { readonly kind: K }>, "kind">;

function row<K extends Command["kind"]>(
  weight: number,
  kind: K,
  fields: { [F in keyof Fields<K>]: fc.Arbitrary<Fields<K>[F]> },
): fc.WeightedArbitrary<Command> {
  const arbitrary = fc.record({ kind: fc.constant(kind), ...fields });
  return { weight, arbitrary: arbitrary as unknown as fc.Arbitrary<Command> };
}

export const command: fc.Arbitrary<Command> = fc.oneof(
  row(6, "allocate", { count: fc.nat(5) }),
  row(8, "fill", { pick, number, group: fc.nat(1), ahead: fc.nat(1) }),
  row(6, "freeTable", { pick }),
  row(4, "commit", {}),
  row(1, "withdraw", { id: block }),
  row(1, "reset", { now: fc.nat(3) }),
  row(2, "press", {
    isPressed: fc.nat(3).map((n) => n === 0),
    spare: fc.constantFrom(Infinity, 0, 1, 3),
  }),
  row(3, "fly", { ids: fc.array(block, { maxLength: 4 }) }),
  row(3, "land", { pick }),
  row(5, "wait", { ms: fc.nat(12) }),
  row(2, "expire", { who }),
  row(1, "recall", { who, after: fc.nat(6) }),
  row(1, "disable", { who, now: fc.nat(6) }),
  row(6, "touch", { who, ids }),
  row(3, "free", { who, ids }),
  row(5, "freeTouched", { who, pick, count: fc.nat(3) }),
  row(6, "lease", { who, ids, ttl }),
  row(3, "renew", { who, pick, ttl: fc.option(ttl, { nil: undefined }) }),
  row(3, "release", { who, pick }),
  row(3, "markSafe", { who, ids }),
  row(2, "clearSafe", { who, numbers: fc.array(number, { maxLength: 3 }) }),
  row(5, "iterate", { who, within: fc.oneof(fc.constant(Infinity), fc.nat(6)) }),
  row(10, "next", { who, count: fc.integer({ min: 1, max: 4 }) }),
  row(1, "endIteration", { who }),
);
