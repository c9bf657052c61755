/** Sessions' files: what was written comes back byte by byte, and what was changed on the way is refused or makes no difference. */

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import type {
  SessionAnswer,
  SessionQuery,
} from "../../engine/connectors/sessions/session-query.ts";
import { KvEngineError } from "../../engine/errors.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { SessionLab, type SessionLabOptions } from "../support/session-lab.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { inLab, type TransferLab } from "../support/transfer-lab.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const FOLDER = temporaryFolder();
let numFiles = 0;
/** Six blocks of four tokens, and one token more. */
const TOKENS = Array.from({ length: 25 }, (_, i) => (i * 37 + 5) % 1000);
const FULL = Int32Array.from(TOKENS.slice(0, 24));

const newFile = (): string => join(FOLDER, `session-${numFiles++}`);

const importOf = (path: string, more: object = {}): SessionQuery & { readonly kind: "import" } => ({
  ...{ kind: "import", owner: "me", path, ttlMs: 60_000 },
  ...more,
});

/** A file of the session `trip`, as `lab` wrote it. */
async function exported(lab: TransferLab, cacheSalt?: string): Promise<string> {
  const sender = new SessionLab(lab);
  await sender.served("r", TOKENS, cacheSalt);
  const path = newFile();
  await sender.sessions.answer({
    kind: "export",
    owner: "me",
    session: "trip",
    request: "r",
    path,
  });
  return path;
}

/** Whatever is due in this turn of the event loop. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function refusalOf(promise: Promise<SessionAnswer>): Promise<KvEngineError> {
  try {
    await promise;
  } catch (thrown) {
    if (thrown instanceof KvEngineError) return thrown;
    throw thrown;
  }
  throw new Error("nothing was refused");
}

describe("a session's file", () => {
  test(
    "has the tokens of full blocks and their pages, and brings them to another host",
    inLab({}, async (lab) => {
      const sender = new SessionLab(lab);
      await sender.served("r", TOKENS);
      const keys = sender.keysOf(FULL);
      const before = await sender.bytesOf(keys);
      const path = newFile();
      const about = { owner: "me", session: "trip", request: "r" };
      const sent = await sender.sessions.answer({ kind: "export", path, ...about });
      expect(sent.sessions).toMatchObject([
        { name: "trip", numTokens: 24, numPages: 6, inHost: 6 },
      ]);
      // Both have the same native pool, so the sender's pages must not be where the receiver's come.
      sender.forget();
      const receiver = new SessionLab(lab);
      const got = await receiver.sessions.answer(importOf(path));
      expect(got.sessions).toMatchObject([
        { name: "trip", state: "frozen", numTokens: 24, inHost: 6, numKept: 6, msLeft: 60_000 },
      ]);
      expect(await receiver.bytesOf(keys)).toEqual(before);
      // What it has, it can pass on.
      const again = newFile();
      await receiver.sessions.answer({ kind: "export", owner: "me", session: "trip", path: again });
      expect(await readFile(again)).toEqual(await readFile(path));
    }),
  );

  test(
    "ends where its pages do: what follows a lost one is of no use",
    inLab({}, async (lab) => {
      const sender = new SessionLab(lab);
      await sender.served("r", TOKENS);
      const keys = sender.keysOf(FULL);
      sender.host.drop(keys[3] as string);
      const path = newFile();
      const about = { owner: "me", session: "trip", request: "r" };
      await sender.sessions.answer({ kind: "export", path, ...about });
      sender.forget();
      const receiver = new SessionLab(lab);
      const { sessions } = await receiver.sessions.answer(importOf(path));
      expect(sessions).toMatchObject([{ numTokens: 12, numPages: 3, inHost: 3 }]);
      const refused = await refusalOf(
        sender.sessions.answer({ kind: "export", path: newFile(), ...about }),
      );
      expect(refused.message).toContain("nothing of the session's KV is left");
    }),
  );

  test(
    "ends there, too, where it is written in several pieces",
    inLab({}, async (lab) => {
      const tokens = Array.from({ length: 161 }, (_, i) => (i * 11) % 500);
      const sender = new SessionLab(lab, { hostPages: 48 });
      await sender.served("r", tokens);
      const keys = sender.keysOf(Int32Array.from(tokens.slice(0, 160)));
      sender.host.drop(keys[10] as string);
      const path = newFile();
      const about = { owner: "me", session: "trip", request: "r" };
      await sender.sessions.answer({ kind: "export", path, ...about });
      sender.forget();
      const { sessions } = await new SessionLab(lab).sessions.answer(importOf(path));
      expect(sessions).toMatchObject([{ numTokens: 40, numPages: 10, inHost: 10 }]);
    }),
  );

  test(
    "waits for host pages that are not ready yet, as after a start, and is refused where no more will be",
    inLab({}, async (lab) => {
      const path = await exported(lab);
      const receiver = new SessionLab(lab, { readyPages: 0 });
      const importing = receiver.sessions.answer(importOf(path));
      for (const numReady of [1, 4]) {
        receiver.grow(numReady);
        while (receiver.host.ready.size < numReady) await turn();
      }
      receiver.grow(32);
      expect((await importing).sessions).toMatchObject([
        { state: "frozen", inHost: 6, numKept: 6 },
      ]);
      const small = new SessionLab(lab, { readyPages: 0, hostPages: 4 });
      const refused = refusalOf(small.sessions.answer(importOf(path)));
      small.grow(3);
      while (small.host.ready.size < 3) await turn();
      small.grow(4);
      expect((await refused).message).toContain("no page free");
    }),
  );

  const OTHERS: readonly (readonly [string, SessionLabOptions, object, string])[] = [
    [
      "another model",
      { fingerprint: '{"weights":["b"],"same":1}' },
      {},
      'its fingerprint is {"weights":["a"]}, this server\'s is {"weights":["b"],"same":1}',
    ],
    ["a salt that the file has not", {}, { cacheSalt: "s" }, "had no cache_salt"],
    ["a budget that is too small", { budget: 5 }, {}, "5 of the 5"],
    ["a host without room", { hostPages: 4, budget: 6 }, {}, "no page free"],
  ];
  test.each(OTHERS)("is refused by %s", (_, options, more, says) =>
    inLab({}, async (lab) => {
      const path = await exported(lab);
      const receiver = new SessionLab(lab, options);
      const refused = await refusalOf(receiver.sessions.answer(importOf(path, more)));
      expect(refused.message).toContain(says);
      expect([receiver.host.numFilling, receiver.retained.size]).toEqual([0, 0]);
    })(),
  );

  test(
    "with a salt is for those who have it",
    inLab({}, async (lab) => {
      const path = await exported(lab, "ours");
      const receiver = new SessionLab(lab);
      const refused = await refusalOf(receiver.sessions.answer(importOf(path)));
      expect(refused.message).toContain("another cache_salt");
      await receiver.sessions.answer(importOf(path, { cacheSalt: "ours" }));
      const keys = receiver.keysOf(FULL, "ours");
      expect(keys.every((key) => receiver.host.pageOf(key) !== undefined)).toBe(true);
    }),
  );

  test(
    "that is none is refused in words",
    inLab({}, async (lab) => {
      const path = newFile();
      const { sessions } = new SessionLab(lab);
      for (const text of ["", "x", "no session at all, whatever its length may be".repeat(9)]) {
        await writeFile(path, text);
        const { code, message } = await refusalOf(sessions.answer(importOf(path)));
        expect([code, message]).toEqual(["invalid_request", "the file is no session of kvengine"]);
      }
    }),
  );
});

/** What may happen to a file, by chance or on purpose. `reseal`: the sum of the head is made right again. */
const change = fc.record({
  kind: fc.constantFrom("flip", "flip", "cut", "grow", "copy", "fill", "word"),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  to: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  length: fc.integer({ min: 1, max: 64 }),
  value: fc.integer({ min: 0, max: 255 }),
  /** Half of the changes are to the head. */
  inHead: fc.boolean(),
  reseal: fc.boolean(),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function changed(original: Uint8Array, headBytes: number, one: Change): Uint8Array {
  const bytes = Buffer.from(original);
  const span = one.inHead ? headBytes : bytes.length;
  const [at, to] = [Math.floor(one.at * span), Math.floor(one.to * span)];
  switch (one.kind) {
    case "flip":
      bytes[at] = (bytes[at] as number) ^ (1 << (one.value & 7));
      break;
    case "cut":
      return bytes.subarray(0, at);
    case "grow":
      return Buffer.concat([bytes, Buffer.alloc(one.length, one.value)]);
    case "copy":
      bytes.copy(bytes, to, at, at + one.length);
      break;
    case "fill":
      bytes.fill(one.value, at, Math.min(bytes.length, at + one.length));
      break;
    case "word":
      // Of the lengths at the start.
      bytes.writeUInt32LE((one.value * 0x0101_0101) >>> (one.length % 32), 8 + 4 * (one.value % 4));
      break;
  }
  return one.reseal ? resealed(bytes) : bytes;
}

/** With a sum that fits, where the lengths allow one. */
function resealed(bytes: Buffer): Buffer {
  const end = 24 + bytes.readUInt32LE(12) + 4 * bytes.readUInt32LE(16);
  if (end + 32 > bytes.length) return bytes;
  createHash("sha256").update(bytes.subarray(0, end)).digest().copy(bytes, end);
  return bytes;
}

test(
  "of 1,000 changed files each is refused or right: no page is another one's",
  inLab({}, async (lab) => {
    const path = await exported(lab);
    const original = await readFile(path);
    const headBytes = 24 + original.readUInt32LE(12) + 4 * original.readUInt32LE(16) + 32;
    const receiver = new SessionLab(lab);
    const keys = receiver.keysOf(FULL);
    await receiver.sessions.answer(importOf(path));
    const right = new Map(
      (await receiver.bytesOf(keys)).map((bytes, i) => [keys[i] as string, bytes]),
    );
    let [numRefused, numRight] = [0, 0];
    await fc.assert(
      fc.asyncProperty(change, async (one) => {
        receiver.forget();
        const file = join(FOLDER, "changed");
        await writeFile(file, changed(original, headBytes, one));
        try {
          await receiver.sessions.answer(importOf(file, { session: "changed" }));
          numRight++;
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(KvEngineError);
          expect((thrown as KvEngineError).code).toBe("invalid_request");
          numRefused++;
        }
        expect(receiver.host.numFilling).toBe(0);
        const there = [...receiver.host.ready.keys()];
        const bytes = await receiver.bytesOf(there);
        for (const [i, key] of there.entries())
          expect(bytes[i]).toEqual(right.get(key) as Uint8Array);
      }),
      propertyRuns(1000),
    );
    expect(numRefused).toBeGreaterThan(numRight);
  }),
);

describe("a session in the host's memory", () => {
  const about = { owner: "me", session: "trip", request: "r" };

  test(
    "is kept when it is frozen, for its time or until it is thawed, within the budget of pins",
    inLab({}, async (lab) => {
      const one = new SessionLab(lab, { budget: 6 });
      await one.served("r", TOKENS);
      const keys = one.keysOf(FULL);
      const frozen = await one.sessions.answer({ kind: "freeze", ttlMs: 1000, ...about });
      expect(frozen.sessions).toMatchObject([{ state: "frozen", numKept: 6, msLeft: 1000 }]);
      expect(keys.every((key) => one.retained.has(key))).toBe(true);
      // Once more: it needs no room of its own.
      await one.sessions.answer({ kind: "freeze", ttlMs: 2000, ...about });
      expect(one.retained.size).toBe(6);
      const thawed = await one.sessions.answer({ kind: "thaw", owner: "me", session: "trip" });
      expect(thawed.sessions).toMatchObject([{ name: "trip", numPages: 6 }]);
      expect(one.retained.size).toBe(0);
      await one.sessions.answer({ kind: "freeze", ttlMs: 1000, ...about });
      one.now = 1000;
      expect(one.retained.size).toBe(0);
      const { sessions } = await one.sessions.answer({ kind: "list", owner: "me", named: [] });
      expect(sessions).toEqual([]);
    }),
  );

  test(
    "is its owner's alone, and listed once with those that requests have named",
    inLab({}, async (lab) => {
      const one = new SessionLab(lab);
      await one.served("r", TOKENS);
      await one.sessions.answer({ kind: "freeze", ttlMs: 1000, ...about });
      const named = [
        { session: "trip", request: "r" },
        { session: "live", request: "r" },
        { session: "forgotten", request: "no more" },
      ];
      const list = async (owner: string, known: typeof named): Promise<readonly string[]> => {
        const { sessions } = await one.sessions.answer({ kind: "list", owner, named: known });
        return sessions.map(({ name, state }) => `${name} ${state}`);
      };
      expect(await list("me", named)).toEqual(["trip frozen", "live live"]);
      expect(await list("you", [])).toEqual([]);
      const refused = await refusalOf(
        one.sessions.answer({ kind: "thaw", owner: "you", session: "trip" }),
      );
      expect(refused.code).toBe("not_found");
    }),
  );

  test(
    "of less than a block is none",
    inLab({}, async (lab) => {
      const one = new SessionLab(lab);
      await one.served("r", TOKENS.slice(0, 3));
      const refused = await refusalOf(
        one.sessions.answer({ kind: "freeze", ttlMs: 1000, ...about }),
      );
      expect(refused.message).toContain("does not fill a block of 4 tokens");
    }),
  );
});
