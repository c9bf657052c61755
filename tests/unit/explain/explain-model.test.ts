/** Whatever happens, nothing is claimed that is not so: each claim is held against a model that forgets nothing. */

import { expect, test } from "bun:test";
import * as fc from "fast-check";
import CpuOffload from "../../../connectors/cpu-offload.ts";
import { ExplainModel } from "../../support/explain-model.ts";
import { FEW_PROPERTY_RUNS, PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";
import {
  FULL,
  makeRequest,
  requestId,
  World,
  type WorldConnectors,
} from "../../support/scheduler-world.ts";

const VOCABULARY = 6;

interface Added {
  readonly kind: "add";
  /** Prompts of a family begin alike. */
  readonly family: number;
  readonly length: number;
  /** Where it leaves its family. */
  readonly parts: number;
  readonly maxTokens: number;
  readonly salt: string | undefined;
}

type Command =
  | Added
  | { readonly kind: "submit" | "commit" | "drain" | "reset" | "fail" }
  | { readonly kind: "abort"; readonly which: number };

const added: fc.Arbitrary<Added> = fc.record({
  kind: fc.constant("add" as const),
  family: fc.nat(5),
  length: fc.integer({ min: 3, max: 50 }),
  parts: fc.constantFrom(99, 99, 99, 9, 17, 30),
  maxTokens: fc.integer({ min: 1, max: 12 }),
  salt: fc.constantFrom(...Array.from({ length: 8 }, () => undefined), "a", "b"),
});

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: added },
  { weight: 5, arbitrary: fc.constant({ kind: "submit" as const }) },
  { weight: 5, arbitrary: fc.constant({ kind: "commit" as const }) },
  { weight: 6, arbitrary: fc.constant({ kind: "drain" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "reset" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "fail" as const }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("abort" as const), which: fc.nat(20) }) },
);

function promptOf({ family, length, parts }: Added): number[] {
  return Array.from(
    { length },
    (_, i) => (i * (family + 1) + (i < parts ? 0 : i + 1)) % VOCABULARY,
  );
}

const run = fc.record({
  commands: fc.array(command, { minLength: 60, maxLength: 100 }),
  maxRemovals: fc.constantFrom(3, 30, 1000, 1000),
  maxRequests: fc.constantFrom(2, 6, 256, 256),
  maxTokens: fc.constantFrom(100, 1e6, 1e6),
  numBlocks: fc.constantFrom(16, 20, 60),
  maxPrefillTokens: fc.constantFrom(undefined, 8),
  hostPages: fc.constantFrom(0, 6, 100),
});

function offload(hostPages: number): { connectors?: WorldConnectors } {
  if (hostPages === 0) return {};
  const connector = new CpuOffload({ mode: "eager" });
  return { connectors: { list: [{ name: "cpu-offload", connector }], hostPages } };
}

async function obey(world: World, step: Command, handle: number): Promise<number> {
  const { runner } = world;
  if (step.kind === "submit") world.submit();
  else if (step.kind === "commit" && runner.queued > 0) await world.commit();
  else if (step.kind === "drain") await world.drain();
  else if (step.kind === "reset") world.scheduler.resetPrefixCache();
  else if (step.kind === "fail") runner.failNextStep("chance");
  else if (step.kind === "abort") {
    const live = [...world.received.keys()].filter((one) => !world.received.get(one)!.finish);
    if (live.length > 0) world.abort(live[step.which % live.length]!);
  } else if (step.kind === "add") {
    const salt = step.salt === undefined ? {} : { cacheSalt: step.salt };
    world.add(handle, makeRequest(handle, promptOf(step), { maxTokens: step.maxTokens }, salt));
    return handle + 1;
  }
  return handle;
}

test(
  "no claim is false, and what is remembered explains every miss",
  async () => {
    const claims = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(run, async ({ commands, hostPages, maxPrefillTokens, ...bounds }) => {
        const { numBlocks, ...explains } = bounds;
        const world = await World.create({
          maxNumSeqs: 3,
          maxNumBatchedTokens: 64,
          blockSize: 4,
          groups: [FULL],
          vocabSize: VOCABULARY,
          numBlocks,
          maxPrefillTokens,
          explains,
          ...offload(hostPages),
        });
        const model = new ExplainModel(world);
        let handle = 0;
        for (const step of commands) handle = await obey(world, step, handle);
        // Some are asked about while they run, all when they have ended.
        for (let one = 0; one < handle; one++) model.check(requestId(one));
        await world.drain();
        for (let one = 0; one < handle; one++) {
          const facts = model.check(requestId(one));
          if (facts?.cause !== "unknown" || facts.state !== "answered" || !facts.isComplete)
            continue;
          // Let in twice, and found more the second time.
          expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
        }
        for (const [cause, count] of model.claims)
          claims.set(cause, (claims.get(cause) ?? 0) + count);
        await world.stop();
      }),
      propertyRuns(60),
    );
    if (FEW_PROPERTY_RUNS) return;
    const met = ["none", "short_prompt", "differs", "new_tokens", "evicted", "reset", "other_salt"];
    met.push("never_stored", "step_failed", "in_progress", "unknown");
    for (const cause of met) expect([cause, claims.get(cause) ?? 0]).not.toEqual([cause, 0]);
  },
  PROPERTY_LIMIT_MS,
);
