/** Sessions that are frozen are known after a restart: a model of what there should be, and what is to be kept of whom. */

import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { KvEngineError } from "../../engine/errors.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { SessionWorld, type SessionWorldOptions } from "../support/session-world.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const FOLDER = temporaryFolder();
const newFolder = (): Promise<string> => mkdtemp(join(FOLDER, "disk-"));
const newWorld = async (options: Partial<SessionWorldOptions> = {}): Promise<SessionWorld> =>
  SessionWorld.create({ folder: await newFolder(), ...options });

/** Five blocks of four tokens and one more, others for each `salt`; the first two blocks are common. */
const tokensOf = (conversation: number): number[] =>
  Array.from({ length: 21 }, (_, i) => (i < 8 ? i : (i * 37 + conversation) % 1000));

const about = { owner: "", session: "trip", request: "r" };

describe("after a restart", () => {
  test("a frozen session is known with its tokens, its time and its pages, and can be thawed", async () => {
    const world = await newWorld();
    const keys = world.serve("r", tokensOf(1));
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
    world.now += 10_000;
    await world.restart();
    expect(await world.list()).toEqual([
      {
        ...{ name: "trip", state: "frozen", numTokens: 20, numFoundTokens: 20, numPages: 5 },
        ...{ onDevice: 0, inHost: 0, onDisk: 5, numKept: 5, msLeft: 50_000, survivesRestart: true },
      },
    ]);
    world.evict();
    const thawed = await world.ask({ kind: "thaw", owner: "", session: "trip" });
    expect(thawed.sessions).toMatchObject([{ state: "live", inHost: 5, numKept: 0, msLeft: 0 }]);
    // It is known without a request, and can be frozen again; it is not kept on the disk meanwhile.
    expect(world.pins.size).toBe(0);
    const again = await world.ask({ kind: "freeze", owner: "", session: "trip", ttlMs: 1000 });
    expect(again.sessions).toMatchObject([{ state: "frozen", numKept: 5, survivesRestart: true }]);
    expect(keys.every((key) => world.pins.has(key))).toBe(true);
  });

  test("one that was thawed, and one whose time is over, are not known, and leave no file", async () => {
    const world = await newWorld();
    world.serve("r", tokensOf(1));
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
    await world.ask({ kind: "thaw", owner: "", session: "trip" });
    await world.ask({ kind: "freeze", ttlMs: 1000, ...about, session: "short" });
    world.now += 1000;
    await world.restart();
    expect(await world.list()).toEqual([]);
    expect(world.log).toEqual([]);
    expect(world.folder.bytes).toBe(0);
  });

  test("one whose pages are gone is listed as gone, with what is left by place", async () => {
    const world = await newWorld();
    const keys = world.serve("r", tokensOf(1));
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
    await world.restart();
    world.disk.delete(keys[2] as string);
    expect(await world.list()).toMatchObject([
      { state: "frozen", numTokens: 20, numFoundTokens: 8, onDisk: 4, numKept: 4 },
    ]);
    world.disk.clear();
    expect(await world.list()).toMatchObject([
      { state: "gone", numTokens: 20, numFoundTokens: 0, onDisk: 0, numKept: 0, msLeft: 60_000 },
    ]);
    expect(world.sessions.kept()).toEqual({ frozen: 0, gone: 1, tokens: 20, bytes: 500 });
    // Its next request computes it, and it is there again.
    world.serve("r", tokensOf(1));
    expect(await world.list()).toMatchObject([{ state: "frozen", onDevice: 5 }]);
  });

  test("one with a salt is found by its hashes, in all groups, and the salt is nowhere", async () => {
    const world = await newWorld({ numGroups: 2 });
    const salt = "a salt that nobody else may have";
    const keys = world.serve("r", tokensOf(1), salt);
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
    await world.restart();
    expect(keys.length).toBe(10);
    expect(await world.list()).toMatchObject([{ state: "frozen", numPages: 10, onDisk: 10 }]);
    const files = new Bun.Glob("**/*").scanSync({ cwd: FOLDER, onlyFiles: true });
    for (const file of files) expect(await Bun.file(join(FOLDER, file)).text()).not.toContain(salt);
  });

  test("each is its owner's alone", async () => {
    const world = await newWorld();
    world.serve("r", tokensOf(1));
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about, owner: "one" });
    await world.restart();
    expect(await world.list("two")).toEqual([]);
    const asTwo = world.ask({ kind: "thaw", owner: "two", session: "trip" });
    await expect(asTwo).rejects.toMatchObject({ code: "not_found" });
    expect(await world.list("one")).toMatchObject([{ name: "trip" }]);
  });

  test("a model that numbers differently knows none of them, and leaves them there", async () => {
    const folder = await newFolder();
    const world = await newWorld({ folder });
    world.serve("r", tokensOf(1));
    await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
    const other = await SessionWorld.create({ folder, model: "2".repeat(64) });
    expect(await other.list()).toEqual([]);
    await world.restart();
    expect(await world.list()).toHaveLength(1);
  });
});

test("a frozen session whose pin has no room is kept as far as it has, and says so", async () => {
  const world = await newWorld({ pinnablePages: 3 });
  world.serve("r", tokensOf(1));
  const { sessions } = await world.ask({ kind: "freeze", ttlMs: 60_000, ...about });
  expect(sessions).toMatchObject([{ state: "frozen", onDisk: 5, numKept: 3 }]);
});

test("a record that has no room costs the name after a restart, and nothing else", async () => {
  const world = await newWorld({ maxBytes: 4096 });
  for (const request of ["r", "s"]) {
    world.serve(request, tokensOf(request.length));
    const { sessions } = await world.ask({
      ...{ kind: "freeze", owner: "", session: request, request, ttlMs: 60_000 },
    });
    expect(sessions).toMatchObject([{ numKept: 5, survivesRestart: request === "r" }]);
  }
  expect(world.log).toEqual([expect.stringContaining('the record of "s" cannot be written')]);
  await world.restart();
  expect((await world.list()).map(({ name }) => name)).toEqual(["r"]);
});

interface Kept {
  readonly endsAt: number;
  readonly keys: readonly string[];
}

const NAMES = ["a", "b", "c"] as const;
const OWNERS = ["", "key"] as const;
const step = fc.record({
  kind: fc.constantFrom("serve", "freeze", "freeze", "thaw", "restart", "evict", "wait", "lose"),
  name: fc.constantFrom(...NAMES),
  owner: fc.constantFrom(...OWNERS),
  conversation: fc.integer({ min: 0, max: 3 }),
  /** Seconds. */
  time: fc.constantFrom(1, 5, 60),
});

/** What there should be, by the same steps. */
class Model {
  /** Frozen, by owner and name. */
  readonly kept = new Map<string, Kept>();
  /** Known in this process alone: by its last request, or since it was thawed. */
  readonly live = new Map<string, readonly string[]>();
  /** Until when content was to be kept, by the longest of those that ever froze it. */
  readonly longest = new Map<string, number>();

  known(id: string): readonly string[] | undefined {
    return this.live.get(id) ?? this.kept.get(id)?.keys;
  }

  freeze(id: string, keys: readonly string[], endsAt: number): void {
    this.kept.set(id, { keys, endsAt });
    this.wanted(keys, endsAt);
  }

  wanted(keys: readonly string[], endsAt: number): void {
    for (const key of keys) this.longest.set(key, Math.max(this.longest.get(key) ?? 0, endsAt));
  }

  expire(now: number): void {
    for (const [id, { endsAt }] of this.kept) if (endsAt <= now) this.kept.delete(id);
  }

  /** Content that somebody keeps. */
  get keys(): ReadonlySet<string> {
    return new Set([...this.kept.values()].flatMap(({ keys }) => keys));
  }
}

/** Of what somebody keeps nothing goes, and what stays was frozen until later. */
function evictAndCheck(world: SessionWorld, model: Model): void {
  const kept = [...model.keys].filter((key) => world.disk.has(key));
  world.evict();
  expect(kept.filter((key) => !world.disk.has(key))).toEqual([]);
  for (const key of world.disk) expect(model.longest.get(key) ?? 0).toBeGreaterThan(world.now);
}

test("what is frozen, by whom and until when is the same as in a model, whatever happens in between", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 40 }),
      fc.constantFrom(1, 2),
      async (steps, numGroups) => {
        const world = await newWorld({ numGroups });
        const model = new Model();
        for (const { kind, name, owner, conversation, time } of steps) {
          const id = `${owner}/${name}`;
          const [request, salt] = [`${id} ${conversation}`, owner === "" ? undefined : "salt"];
          const before = model.known(id);
          switch (kind) {
            case "serve": {
              const keys = world.serve(request, tokensOf(conversation), salt);
              // Named by its request from here on.
              await world.ask({ kind: "freeze", owner, session: name, request, ttlMs: 1000 });
              await world.ask({ kind: "thaw", owner, session: name });
              model.kept.delete(id);
              model.live.set(id, keys);
              model.wanted(keys, world.now + 1000);
              break;
            }
            case "freeze":
            case "thaw": {
              const ttlMs = time * 1000;
              const asked = world.ask(
                kind === "freeze"
                  ? { kind, owner, session: name, ttlMs }
                  : { kind, owner, session: name },
              );
              if (before === undefined) {
                expect(await asked.catch((thrown: unknown) => thrown)).toBeInstanceOf(
                  KvEngineError,
                );
                break;
              }
              await asked;
              model.kept.delete(id);
              model.live.delete(id);
              if (kind === "freeze") model.freeze(id, before, world.now + ttlMs);
              else model.live.set(id, before);
              break;
            }
            case "restart":
              await world.restart();
              model.live.clear();
              break;
            case "evict":
              evictAndCheck(world, model);
              break;
            case "wait":
              world.now += time * 1000;
              break;
            case "lose":
              for (const key of (before ?? []).slice(0, 2)) {
                world.device.delete(key);
                world.host.delete(key);
                world.disk.delete(key);
                world.pins.delete(key);
              }
              break;
          }
          model.expire(world.now);
          for (const whose of OWNERS) {
            const listed = await world.list(whose);
            const frozen = listed.filter(({ msLeft }) => msLeft > 0);
            const ours = [...model.kept].filter(([key]) => key.startsWith(`${whose}/`));
            const told = frozen.map((one) => [
              `${whose}/${one.name}`,
              one.msLeft,
              one.survivesRestart,
            ]);
            const right = ours.map(([key, { endsAt }]) => [key, endsAt - world.now, true]);
            expect(new Set(told.map(String))).toEqual(new Set(right.map(String)));
            for (const one of listed) {
              const keys = model.known(`${whose}/${one.name}`) ?? [];
              const numFound = world.numFound(keys);
              expect([one.numPages, one.numFoundTokens]).toEqual([keys.length, numFound]);
              const isFrozen = one.msLeft > 0;
              expect(one.state).toBe(numFound === 0 ? "gone" : isFrozen ? "frozen" : "live");
              expect(one.numKept).toBe(isFrozen ? one.onDisk : 0);
            }
          }
        }
        expect(world.log).toEqual([]);
      },
    ),
    propertyRuns(60),
  );
});
