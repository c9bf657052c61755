/** The part of the connectors' suite that runs a connector in an engine: ours keep every rule, broken ones are told what they broke. */

import { describe, expect, test } from "bun:test";
import { testConnector } from "../../connectors/conformance.ts";
import {
  RefusedError,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
  type WantedBlocks,
} from "../../connectors/connector.ts";
import { CONNECTOR_NAMES, importConnector } from "../../connectors/registry.ts";
import { SERVING_RULES } from "../../connectors/serving-rules.ts";
import { harnessOf } from "../support/conformance-harness.ts";
import { Bound } from "../support/serving-world.ts";
import BlockOriented from "./examples/block-oriented.ts";
import VllmShape from "./examples/vllm-shape.ts";
import Frozen from "./frozen/version-1.ts";

async function failuresOf(exported: unknown): Promise<string[]> {
  const results = await testConnector(harnessOf(exported), SERVING_RULES);
  return results.flatMap(({ failure }) => (failure === undefined ? [] : [failure]));
}

describe("serves as if it were not there:", () => {
  test.each(CONNECTOR_NAMES)("the built-in %s", async (name) => {
    expect(await failuresOf(await importConnector(name))).toEqual([]);
  });

  test.each([
    ["block-oriented", BlockOriented],
    ["in the shape of vLLM's", VllmShape],
    ["frozen", Frozen],
  ])("the example that is %s", async (_, example) => {
    expect(await failuresOf(example)).toEqual([]);
  });
});

test("one that wakes the engine in each hook serves as if it did not: none runs inside another", async () => {
  class Wakes extends BlockOriented {
    #context!: SchedulerContext;
    override onSchedulerReady(context: SchedulerContext): void {
      super.onSchedulerReady(context);
      this.#context = context;
    }
    override findBlocks(...given: Parameters<BlockOriented["findBlocks"]>): undefined {
      this.#context.wake();
      return super.findBlocks(...given);
    }
    override buildConnectorMeta(output: SchedulerOutput): void {
      super.buildConnectorMeta(output);
      this.#context.wake();
    }
    override updateConnectorOutput(results: readonly TransferResult[]): void {
      super.updateConnectorOutput(results);
      this.#context.wake();
    }
  }
  const report = await harnessOf(Wakes).serve({
    seed: 1,
    spareBlocks: 4,
    hostPages: 64,
    fates: ["ends"],
    disturbs: false,
  });
  expect(report).toMatchObject({ wrong: [], unfinished: [], lines: [], isDisabled: false });
  expect(report.counts.loaded).toBeGreaterThan(0);
});

describe("is told what it broke:", () => {
  class Named extends Bound {
    static readonly connectorName: string = "under-test";
    static readonly apiVersion: number = 1;
    static readonly options = {};
  }

  test("one that throws where only an engine that serves would bring it to", async () => {
    class Throws extends Named {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        const pages = this.context.pages.alloc(completed.length) ?? [];
        if (pages.length > 0) this.context.transfers.store(completed, pages);
      }
      override updateConnectorOutput(): void {
        throw new Error("no news is good news");
      }
    }
    const failures = await failuresOf(Throws);
    expect(failures.length).toBe(SERVING_RULES.length);
    expect(failures[0]).toMatch(
      /^in trial 1 of 12 it was disabled; the log says: connector under-test: updateConnectorOutput threw Error: no news/,
    );
  });

  test("one that never frees what it touches", async () => {
    class Keeps extends Named {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        const { numFreeBlocks } = this.view;
        if (numFreeBlocks > 8 && completed.length > 0) this.view.touchBlocks(completed.slice(0, 1));
      }
    }
    const [failure] = await failuresOf(Keeps);
    expect(failure).toMatch(
      /in trial \d+ of 12 the log says: connector under-test: its code left \d+ touches/,
    );
  });

  test("one that brings what it stored before a reset", async () => {
    class Remembers extends BlockOriented {
      override resetCache(): void {}
    }
    const [failure] = await failuresOf(Remembers);
    expect(failure).toMatch(
      /updateStateAfterAlloc threw RefusedError: page \d+ was filled before the cache was reset/,
    );
  });

  test("one that does so, and hides that it is refused", async () => {
    class Hides extends BlockOriented {
      override updateStateAfterAlloc(...given: Parameters<BlockOriented["updateStateAfterAlloc"]>) {
        try {
          super.updateStateAfterAlloc(...given);
        } catch (thrown) {
          if (!(thrown instanceof RefusedError)) throw thrown;
        }
      }
      override resetCache(): void {}
    }
    const [failure] = await failuresOf(Hides);
    expect(failure).toMatch(
      /blocks that it promised were never loaded, .*the load of \d+ was refused as `stale`/,
    );
  });

  test("one that promises what it has, and brings nothing", async () => {
    class Promises extends BlockOriented {
      override updateStateAfterAlloc(): void {}
    }
    const failures = await failuresOf(Promises);
    expect(failures.length).toBe(2);
    for (const failure of failures)
      expect(failure).toMatch(
        /^in trial \d+ of 12 \d+ of \d+ blocks that it promised were never loaded/,
      );
  });

  test("one that loads a page that is not its own", async () => {
    class Guesses extends Named {
      override findBlocks(...[, , wanted]: [unknown, unknown, WantedBlocks]): undefined {
        for (let block = 0; block < wanted.numBlocks; block++) wanted.mark(block, 0);
      }
      override updateStateAfterAlloc(
        ...[, plan]: Parameters<Bound["updateStateAfterAlloc"]>
      ): void {
        for (const { id } of plan.blocks) this.context.transfers.load([0], [id]);
      }
    }
    const [failure] = await failuresOf(Guesses);
    expect(failure).toContain("updateStateAfterAlloc threw RefusedError");
  });
});

test("a trial follows from its seed alone: the same decisions, step by step (I30)", async () => {
  const options = {
    spareBlocks: 3,
    hostPages: 16,
    fates: ["ends", "fails", "hangs"],
    disturbs: true,
  } as const;
  const traces: string[] = [];
  for (const seed of [5, 5, 6]) {
    const seen: unknown[] = [];
    class Traces extends BlockOriented {
      override buildConnectorMeta(output: SchedulerOutput): void {
        // How often an idle engine looks depends on when the threads answer.
        if (output.stepId >= 0) seen.push(output);
        super.buildConnectorMeta(output);
      }
    }
    await harnessOf(Traces).serve({ ...options, seed });
    traces.push(JSON.stringify(seen));
  }
  expect(traces[0]).toBe(traces[1]!);
  expect(traces[2]).not.toBe(traces[0]!);
});
