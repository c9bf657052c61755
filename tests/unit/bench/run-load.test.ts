import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { type LoadOptions, type LoadResult, runLoad } from "../../../cli/bench/load/run-load.ts";
import { SATURATION_RULE, SaturationMonitor } from "../../../cli/bench/load/saturation.ts";
import type { LoadPlan, Workload } from "../../../cli/bench/types.ts";
import { planWith, shapedWorkload, singleTurns } from "../../support/bench-workload.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { type Script, ScriptedTarget } from "../../support/scripted-target.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const QUICK: Script = () => ({ firstMs: 10, gapMs: 1 });

interface Setup {
  readonly clock: VirtualClock;
  readonly target: ScriptedTarget;
  readonly run: Promise<LoadResult>;
}

function start(
  workload: Workload,
  plan: LoadPlan,
  script: Script = QUICK,
  options: Partial<LoadOptions> = {},
): Setup {
  const clock = new VirtualClock();
  const target = new ScriptedTarget(clock, script);
  const run = runLoad(workload, plan, { clock, send: target.send, ...options });
  return { clock, target, run };
}

async function finish({ clock, run }: Setup): Promise<LoadResult> {
  return clock.run(run);
}

/** Conversations and turns of the records, in order. */
function turnsOf({ records }: LoadResult): string[] {
  return records.map(({ conversation, turn }) => `${conversation}.${turn}`);
}

const shapes = fc.record({
  turns: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 12 }),
  thinkTimeMs: fc.constantFrom(0, 5, 40),
});
const plans = fc.record({
  requestRate: fc.constantFrom(Number.POSITIVE_INFINITY, 1, 20, 500),
  burstiness: fc.constantFrom(0.3, 1, 8),
  maxConcurrency: fc.constantFrom(1, 2, 5, Number.POSITIVE_INFINITY),
  seed: fc.nat(1000),
});
/** Times of answers by a seed: the same for the same request. */
const scripts = fc.nat(1000).map((seed): Script => {
  return ({ conversation, turn }) => {
    const noise = Bun.hash.crc32(`${seed} ${conversation} ${turn}`);
    return { firstMs: 1 + (noise % 60), gapMs: 1 + (noise % 7) };
  };
});

describe("a load", () => {
  test("sends every turn of every conversation once, in order, and never more at a time than it may", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, plans, scripts, async (shape, plan, script) => {
        const workload = shapedWorkload(shape);
        const setup = start(workload, planWith(plan), script);
        const result = await finish(setup);
        expect(setup.target.mostRunning).toBeLessThanOrEqual(plan.maxConcurrency);
        expect(result.stopped).toBeUndefined();
        const expected = shape.turns.flatMap((n, c) =>
          Array.from({ length: n }, (_, t) => `c${c}.${t}`),
        );
        expect(turnsOf(result).toSorted()).toEqual(expected.toSorted());
        for (const { id, turns } of workload.conversations) {
          const own = result.records.filter(({ conversation }) => conversation === id);
          expect(own.map(({ turn }) => turn)).toEqual([...turns.keys()]);
          for (const [i, { sentAt }] of own.slice(1).entries())
            expect(sentAt).toBe((own[i]?.endedAt ?? 0) + shape.thinkTimeMs);
        }
        expect(result.durationMs).toBe(Math.max(...result.records.map(({ endedAt }) => endedAt)));
      }),
      propertyRuns(60),
    );
  });

  test("loses nothing when it is interrupted at any moment: what was sent has its record", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, plans, scripts, fc.nat(300), async (shape, plan, script, at) => {
        const interrupt = new AbortController();
        const setup = start(shapedWorkload(shape), planWith(plan), script, {
          signal: interrupt.signal,
        });
        await setup.clock.advance(at);
        const sentBefore = setup.target.asked.length;
        const doneBefore = setup.target.running === 0;
        interrupt.abort();
        const result = await finish(setup);
        expect(result.records.length).toBe(setup.target.asked.length);
        expect(setup.target.asked.length).toBe(sentBefore);
        expect(setup.target.running).toBe(0);
        expect(result.records.map(({ sentAt }) => sentAt)).toEqual(
          setup.target.askedAt.toSorted((a, b) => a - b),
        );
        const cut = result.records.filter(({ outcome }) => outcome !== "ok");
        if (doneBefore) expect(cut).toEqual([]);
        for (const { error, endedAt } of cut) expect([error, endedAt]).toEqual(["interrupted", at]);
      }),
      propertyRuns(60),
    );
  });

  test("is marked when it is interrupted, and sends nothing when it was before it began", async () => {
    const interrupt = new AbortController();
    const setup = start(singleTurns(3), planWith({ maxConcurrency: 1 }), QUICK, {
      signal: interrupt.signal,
    });
    await setup.clock.advance(11);
    interrupt.abort();
    const result = await finish(setup);
    expect([result.stopped, result.records[0]?.outcome, result.records.length]).toEqual([
      "interrupted",
      "cut",
      1,
    ]);
    const early = start(singleTurns(3), planWith(), QUICK, { signal: interrupt.signal });
    expect(await finish(early)).toEqual({ records: [], durationMs: 0, stopped: "interrupted" });
  });

  test("begins conversations when they are due", async () => {
    const even = { requestRate: 10, burstiness: Number.POSITIVE_INFINITY };
    const setup = start(singleTurns(4), planWith(even));
    await finish(setup);
    expect(setup.target.askedAt).toEqual([100, 200, 300, 400]);
  });

  test("begins a conversation that waited for room as soon as there is some", async () => {
    const even = { requestRate: 1000, burstiness: Number.POSITIVE_INFINITY, maxConcurrency: 1 };
    const setup = start(singleTurns(3), planWith(even));
    await finish(setup);
    expect(setup.target.askedAt).toEqual([1, 14, 27]);
  });

  test("sends a timed trace at its times", async () => {
    const workload = singleTurns(3);
    const conversations = workload.conversations.map(({ id, turns }, i) => ({
      id,
      turns,
      at: 7 * i,
    }));
    const setup = start({ ...workload, conversations }, planWith());
    await finish(setup);
    expect(setup.target.askedAt).toEqual([0, 7, 14]);
  });

  test("holds a conversation's place while its user thinks", async () => {
    const workload = shapedWorkload({ turns: [2, 1], thinkTimeMs: 1000 });
    const setup = start(workload, planWith({ maxConcurrency: 1 }));
    expect(turnsOf(await finish(setup))).toEqual(["c0.0", "c0.1", "c1.0"]);
  });

  test("prompts know the answers of the turns before", async () => {
    const setup = start(shapedWorkload({ turns: [3] }), planWith());
    await finish(setup);
    const before = setup.target.asked.map(({ prompt }) =>
      prompt.kind === "tokens" ? prompt.tokenIds[2] : undefined,
    );
    expect(before).toEqual([0, 1, 2]);
  });

  test("ends a conversation with the turn that fails", async () => {
    const fails: Script = ({ conversation, turn }) => ({
      firstMs: 1,
      gapMs: 1,
      ...(conversation === "c0" && turn === 1 ? { fails: "refused" as const } : {}),
    });
    const result = await finish(start(shapedWorkload({ turns: [3, 2] }), planWith(), fails));
    expect(turnsOf(result).toSorted()).toEqual(["c0.0", "c0.1", "c1.0", "c1.1"]);
    expect(result.stopped).toBeUndefined();
  });

  test("sends nothing later than its duration, and lets what runs end", async () => {
    const plan = planWith({ maxConcurrency: 1, durationMs: 30 });
    const result = await finish(start(singleTurns(10), plan));
    expect(result.records.map(({ sentAt, outcome }) => [sentAt, outcome])).toEqual([
      [0, "ok"],
      [13, "ok"],
      [26, "ok"],
    ]);
    expect([result.stopped, result.durationMs]).toEqual(["duration", 39]);
  });

  test("sends what is due at the very end of its duration, and nothing a moment later", async () => {
    const even = { requestRate: 10, burstiness: Number.POSITIVE_INFINITY };
    const times = async (durationMs: number): Promise<readonly number[]> => {
      const setup = start(singleTurns(5), planWith({ ...even, durationMs }));
      expect((await finish(setup)).stopped).toBe("duration");
      return setup.target.askedAt;
    };
    expect(await times(300)).toEqual([100, 200, 300]);
    expect(await times(299)).toEqual([100, 200]);
  });

  test("does not begin to think when the turn after it would be too late", async () => {
    const workload = shapedWorkload({ turns: [2], thinkTimeMs: 100 });
    const late = await finish(start(workload, planWith({ durationMs: 112 })));
    expect([turnsOf(late), late.stopped, late.durationMs]).toEqual([["c0.0"], "duration", 13]);
    const inTime = await finish(start(workload, planWith({ durationMs: 113 })));
    expect([turnsOf(inTime), inTime.stopped]).toEqual([["c0.0", "c0.1"], undefined]);
  });

  test("is not said to have been stopped when the workload ends in time", async () => {
    expect(
      (await finish(start(singleTurns(2), planWith({ durationMs: 1000 })))).stopped,
    ).toBeUndefined();
  });

  test("a concurrency that grows by time lets a conversation in at the moment it grows", async () => {
    const ramp = { shape: "linear", from: 1, to: 3 } as const;
    const slow: Script = () => ({ firstMs: 5000, gapMs: 1 });
    const setup = start(singleTurns(5), planWith({ ramp, durationMs: 2000 }), slow);
    await finish(setup);
    expect(setup.target.askedAt).toEqual([0, 1000, 2000]);
  });

  test("gives up when nothing answers any more, not because of a few", async () => {
    const gone: Script = () => ({ firstMs: 1, gapMs: 1, fails: "unreachable" });
    const plan = planWith({ maxConcurrency: 1 });
    const lost = await finish(start(singleTurns(10), plan, gone));
    expect([lost.stopped, lost.records.length]).toEqual(["unreachable", 3]);
    const flaky: Script = ({ conversation }) =>
      conversation === "c3" ? QUICK({} as never, 1) : gone({} as never, 1);
    const kept = await finish(start(singleTurns(5), planWith({ maxConcurrency: 1 }), flaky));
    expect(kept.stopped).toBe("unreachable");
    const rare: Script = ({ conversation }) =>
      Number(conversation.slice(1)) % 3 === 2 ? QUICK({} as never, 1) : gone({} as never, 1);
    expect((await finish(start(singleTurns(9), plan, rare))).stopped).toBeUndefined();
  });

  test("ends when the target cannot keep up; what was cut is kept and marked", async () => {
    // Ten a second come, five a second are served, one at a time.
    const queue: Script = (_, running) => ({ firstMs: 200 * running, gapMs: 0 });
    const plan = planWith({ requestRate: 10, seed: 4 });
    const result = await finish(
      start(singleTurns(2000), plan, queue, { saturation: new SaturationMonitor(SATURATION_RULE) }),
    );
    expect(result.stopped).toBe("over-saturation");
    expect(result.durationMs).toBeGreaterThan(30_000);
    expect(result.durationMs).toBeLessThan(60_000);
    const cut = result.records.filter(({ error }) => error === "over-saturation");
    expect(cut.length).toBeGreaterThan(5);
    expect(result.records.length - cut.length).toBeGreaterThan(100);
  });

  test("an error of the bench itself ends the load and is not hidden", async () => {
    const broken = singleTurns(2);
    const [first, second] = broken.conversations;
    const bad = {
      ...second!,
      turns: [
        {
          ...second!.turns[0]!,
          prompt: (): never => {
            throw new Error("no such prompt");
          },
        },
      ],
    };
    const setup = start({ ...broken, conversations: [first!, bad] }, planWith());
    const caught = setup.run.catch((error: unknown) => error);
    expect(await setup.clock.run(caught)).toEqual(new Error("no such prompt"));
    expect(setup.target.running).toBe(0);
  });
});
