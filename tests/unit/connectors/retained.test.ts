/** Pins: what is kept, until when, and never more than the budget. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { blockKey } from "../../../engine/cache/block-key.ts";
import { Pins } from "../../../engine/connectors/pins.ts";
import type { PinQuery } from "../../../engine/connectors/pin-query.ts";
import { type Pin, Retained } from "../../../engine/connectors/retained.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

function refusalOf(call: () => unknown): KvEngineError {
  try {
    call();
  } catch (thrown) {
    if (thrown instanceof KvEngineError) return thrown;
    throw thrown;
  }
  throw new Error("nothing was refused");
}

const pinOf = (id: string, keys: readonly string[], endsAt: number, owner = ""): Pin => ({
  id,
  owner,
  keys,
  numTokens: keys.length * 16,
  endsAt,
});

describe("what is retained", () => {
  test("is kept to the end of its last pin, and no longer", () => {
    let now = 0;
    const retained = new Retained(10, () => now);
    retained.add(pinOf("a", ["x", "y"], 100));
    retained.add(pinOf("b", ["y", "z"], 200));
    const kept = (): boolean[] => ["x", "y", "z"].map((key) => retained.has(key));
    expect([retained.size, kept()]).toEqual([3, [true, true, true]]);
    now = 99;
    expect(kept()).toEqual([true, true, true]);
    now = 100;
    expect([retained.size, kept()]).toEqual([2, [false, true, true]]);
    now = 200;
    expect([retained.size, kept()]).toEqual([0, [false, false, false]]);
  });

  test("fills the budget to the last page, and what several pins name counts once", () => {
    const retained = new Retained(3, () => 0);
    retained.add(pinOf("a", ["x", "y"], 1));
    retained.add(pinOf("b", ["x", "y", "z"], 1));
    const refused = refusalOf(() => retained.add(pinOf("c", ["z", "new"], 1)));
    expect(refused.code).toBe("invalid_request");
    expect(refused.message).toContain("needs 1 more pages; 0 of the 3");
    expect([retained.size, retained.has("new")]).toEqual([3, false]);
    expect(refusalOf(() => new Retained(0, () => 0).add(pinOf("a", ["x"], 1))).code).toBe(
      "invalid_request",
    );
  });

  test("is ended by its owner only", () => {
    const retained = new Retained(3, () => 0);
    retained.add(pinOf("a", ["x"], 1, "one"));
    expect(retained.remove("a", "two")).toBeUndefined();
    expect([retained.list("one").length, retained.list("two").length]).toEqual([1, 0]);
    expect(retained.remove("a", "one")?.id).toBe("a");
    expect([retained.remove("a", "one"), retained.size]).toEqual([undefined, 0]);
  });

  test("is that of a plain list of pins, whatever is pinned, ended and waited for", () => {
    const command = fc.oneof(
      fc.record({
        kind: fc.constant("add" as const),
        keys: fc.array(fc.constantFrom("a", "b", "c", "d", "e", "f"), { minLength: 1 }),
        ms: fc.integer({ min: 1, max: 20 }),
      }),
      fc.record({ kind: fc.constant("remove" as const), which: fc.nat(9) }),
      fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(9) }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), fc.nat(6), (commands, budget) => {
        let now = 0;
        const retained = new Retained(budget, () => now);
        let pins: Pin[] = [];
        for (const [i, step] of commands.entries()) {
          pins = pins.filter(({ endsAt }) => endsAt > now);
          const kept = new Set(pins.flatMap(({ keys }) => keys));
          if (step.kind === "wait") now += step.ms;
          if (step.kind === "remove") {
            const pin = pins[step.which];
            if (pin !== undefined) expect(retained.remove(pin.id, "")).toBe(pin);
            pins = pins.filter((one) => one !== pin);
          }
          if (step.kind === "add") {
            const pin = pinOf(`pin-${i}`, step.keys, now + step.ms);
            if (new Set([...kept, ...step.keys]).size > budget) {
              expect(refusalOf(() => retained.add(pin)).code).toBe("invalid_request");
            } else {
              retained.add(pin);
              pins.push(pin);
            }
          }
          pins = pins.filter(({ endsAt }) => endsAt > now);
          const left = new Set(pins.flatMap(({ keys }) => keys));
          expect(retained.size).toBe(left.size);
          expect(retained.size).toBeLessThanOrEqual(budget);
          for (const key of "abcdef") expect(retained.has(key)).toBe(left.has(key));
          expect(retained.list("")).toEqual(pins);
        }
      }),
      propertyRuns(300),
    );
  });
});

describe("a pin", () => {
  /** Three blocks of 16 tokens, and some more. */
  const hashes = Int32Array.from({ length: 24 }, (_, i) => i);
  const prompts = new Map([["r", { hashes, numPromptTokens: 55 }]]);
  const add = (more: Partial<PinQuery & { kind: "add" }> = {}): PinQuery => ({
    kind: "add",
    owner: "",
    pin: "p",
    request: "r",
    ttlMs: 1000,
    ...more,
  });

  test("is of the prompt's full blocks in all groups, or of those of its first tokens", () => {
    const retained = new Retained(100, () => 5);
    const pins = new Pins(retained, prompts, { blockSize: 16, groups: [0, 0] }, () => 5);
    expect(pins.answer(add())).toEqual({
      pins: [{ id: "p", numTokens: 48, numPages: 6, inHost: 0, onDisk: 0, msLeft: 1000 }],
      budget: 100,
      used: 6,
    });
    for (let block = 0; block < 3; block++)
      for (const group of [0, 1])
        expect(retained.has(blockKey(hashes, block * 8, group))).toBe(true);
    const few = pins.answer(add({ pin: "q", tokens: 16 }));
    expect(few.pins[0]).toMatchObject({ numTokens: 16, numPages: 2 });
    expect(few.used).toBe(6);
    expect(pins.answer({ kind: "list", owner: "" }).pins.map(({ id }) => id)).toEqual(["p", "q"]);
    expect(pins.answer({ kind: "remove", owner: "", pin: "p" }).used).toBe(2);
  });

  test("that renews is one for the same content, kept to the later end, and an owner's own", () => {
    let now = 0;
    const retained = new Retained(6, () => now);
    const pins = new Pins(retained, prompts, { blockSize: 16, groups: [0, 0] }, () => now);
    const renew = (more: object = {}): string[] =>
      pins.answer(add({ renews: true, ...more })).pins.map(({ id, msLeft }) => `${id} ${msLeft}`);
    const [first] = renew();
    now = 600;
    expect(renew({ pin: "another", ttlMs: 100 })).toEqual([first!.replace("1000", "400")]);
    expect(renew({ ttlMs: 1000 })).toEqual([first!]);
    expect(pins.answer({ kind: "list", owner: "" }).pins).toHaveLength(1);
    expect(renew({ owner: "you" })).not.toEqual([first!]);
    now = 1600;
    expect(retained.size).toBe(0);
  });

  test("says where its pages are, and holds on the disk to its end", () => {
    const retained = new Retained(100, () => 5);
    const onDisk: string[] = [];
    const diskPins = {
      add: (pin: Pin): void => void onDisk.push(`${pin.id} to ${pin.endsAt}`),
      remove: (id: string): void => void onDisk.push(`${id} ended`),
    };
    const pins = new Pins(retained, prompts, { blockSize: 16, groups: [0] }, () => 5, {
      isInHost: (key) => key === blockKey(hashes, 0, 0),
      disk: { has: (keys) => keys.map((_, i) => i > 0) },
      diskPins,
    });
    expect(pins.answer(add()).pins).toMatchObject([{ numPages: 3, inHost: 1, onDisk: 2 }]);
    pins.answer({ kind: "remove", owner: "", pin: "p" });
    expect(onDisk).toEqual(["p to 1005", "p ended"]);
  });

  test("of less than a block, of an unknown request, and of no pin are refused", () => {
    const pins = new Pins(
      new Retained(9, () => 0),
      prompts,
      { blockSize: 16, groups: [0] },
      () => 0,
    );
    expect(refusalOf(() => pins.answer(add({ tokens: 15 })))).toMatchObject({ subject: "tokens" });
    expect(refusalOf(() => pins.answer(add({ request: "x" })))).toMatchObject({
      code: "not_found",
      subject: "id",
    });
    const none = refusalOf(() => pins.answer({ kind: "remove", owner: "", pin: "p" }));
    expect(none.code).toBe("not_found");
    const small = new Pins(
      new Retained(2, () => 0),
      prompts,
      { blockSize: 16, groups: [0] },
      () => 0,
    );
    expect(refusalOf(() => small.answer(add())).hint).toContain("--kv-pin-budget");
    const forgetful = new Pins(
      new Retained(9, () => 0),
      undefined,
      { blockSize: 16, groups: [0] },
      () => 0,
    );
    expect(refusalOf(() => forgetful.answer(add())).code).toBe("not_found");
  });
});
