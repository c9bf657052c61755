/** A world with connectors that may do anything, and what must hold of it whatever they do. */

import { expect } from "bun:test";
import {
  type GpuBlockPoolView,
  KvConnector,
  RefusedError,
  type SchedulerContext,
} from "../../connectors/connector.ts";
import type { NamedConnector } from "../../engine/connectors/connector-host.ts";
import type { FaultKind } from "../../engine/connectors/connector-faults.ts";
import {
  FULL,
  makeRequest,
  promptOf,
  World,
  type WorldConnectors,
  type WorldOptions,
} from "./scheduler-world.ts";

/** Keeps its view and its context, and does nothing. */
export class Bound extends KvConnector {
  view!: GpuBlockPoolView;
  context!: SchedulerContext;

  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.view = view;
  }

  override onSchedulerReady(context: SchedulerContext): void {
    this.context = context;
  }
}

/** The code of what `body` is refused with; throws when it is not refused. */
export function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (thrown) {
    return codeOfThrown(thrown);
  }
  throw new Error("nothing was refused");
}

/** The code of a refusal; throws what is none. */
export function codeOfThrown(thrown: unknown): string {
  if (thrown instanceof RefusedError) return thrown.code;
  throw thrown;
}

export class ServingWorld {
  readonly world: World;
  /** Lines of the log, but those for information. */
  readonly lines: readonly string[];
  readonly #metrics = new Map<string, number>();
  #handles = 0;

  private constructor(world: World, lines: readonly string[]) {
    this.world = world;
    this.lines = lines;
  }

  /** Twelve blocks of four tokens, and connectors named as given; one without a name is `hostile`. */
  static async create(
    connectors: KvConnector | readonly NamedConnector[],
    options: Partial<WorldOptions> = {},
    more: Partial<WorldConnectors> = {},
  ): Promise<ServingWorld> {
    const lines: string[] = [];
    const list =
      connectors instanceof KvConnector
        ? [{ name: "hostile", connector: connectors }]
        : [...connectors];
    const world = await World.create({
      maxNumSeqs: 4,
      maxNumBatchedTokens: 64,
      blockSize: 4,
      numBlocks: 12,
      groups: [FULL],
      ...options,
      connectors: {
        list,
        hostPages: 64,
        log: (level, line) => {
          if (level !== "info") lines.push(line);
        },
        ...more,
      },
    });
    return new ServingWorld(world, lines);
  }

  /** Adds a request whose prompt depends on `salt`; answers its handle. */
  add(salt: number, promptTokens = 24, maxTokens = 4, cacheSalt?: string): number {
    const handle = this.#handles++;
    const prompt = promptOf(promptTokens, salt, 50);
    const more = cacheSalt === undefined ? {} : { cacheSalt };
    this.world.add(handle, makeRequest(handle, prompt, { maxTokens }, more));
    return handle;
  }

  /** Serves a prompt of 24 tokens and then others, until the device has nothing of it. Salts from 10 on are used: they repeat after 50. */
  async away(salt: number, cacheSalt?: string): Promise<void> {
    this.add(salt, 24, 4, cacheSalt);
    await this.world.drain();
    for (let other = 0; other < 3; other++) {
      this.add(10 + (this.#handles % 40), 36, 4);
      await this.world.drain();
    }
  }

  /** What the receipt of a request says: prompt tokens by tier. */
  tiersOf(handle: number): Readonly<Record<string, number>> | undefined {
    return this.world.received.get(handle)?.finish?.usage.cacheReceipt?.byTier;
  }

  /** Serves until a request has ended, and not on: transfers and deadlines stand still. */
  async untilEnded(handle: number): Promise<void> {
    const { world } = this;
    while (world.received.get(handle)?.finish === undefined) {
      if (!world.submit() && world.runner.queued === 0) throw new Error("nothing can be computed");
      await world.commit();
    }
  }

  /** Three prompts one after the other, each of half the pool, then all of them at once: content goes, and is wanted again. */
  async serve(): Promise<void> {
    for (const salt of [1, 2, 3]) {
      this.add(salt);
      await this.world.drain();
    }
    for (const salt of [1, 2, 3]) this.add(salt, 24, 20);
    await this.world.drain();
  }

  /** Everyone but `aborted` got the tokens that they get alone, and nothing is held, promised, flying or cached for nobody. */
  expectNothingLeft(aborted: readonly number[] = []): void {
    const { world } = this;
    for (const handle of world.received.keys())
      if (!aborted.includes(handle)) world.expectAsAlone(handle);
    const { connectors, scheduler } = world;
    const { pool } = scheduler;
    expect({
      held: connectors?.ledgers.numHeld,
      flights: connectors?.flights.length,
      loading: connectors?.loads.blocks.size,
      flying: pool.numFlying,
      used: pool.numUsed,
    }).toEqual({ held: 0, flights: 0, loading: 0, flying: 0, used: 0 });
    expect(pool.freeIds().length).toBe(scheduler.limits.numBlocks);
  }

  /** What `/metrics` says of a connector's faults; kinds of which there are none are left out. */
  faultsOf(connector = "hostile"): Partial<Record<FaultKind, number>> {
    const prefix = "kvengine:connector_faults_total ";
    const faults: Partial<Record<FaultKind, number>> = {};
    for (const [series, value] of this.#read()) {
      if (!series.startsWith(prefix)) continue;
      const labels = JSON.parse(series.slice(prefix.length)) as { connector: string; kind: string };
      if (labels.connector === connector && value > 0) faults[labels.kind as FaultKind] = value;
    }
    return faults;
  }

  /** What `/metrics` says of whether a connector is disabled. */
  isDisabled(connector = "hostile"): boolean {
    return this.#read().get(`kvengine:connector_disabled ${JSON.stringify({ connector })}`) === 1;
  }

  /** Samples are told when they change. */
  #read(): ReadonlyMap<string, number> {
    for (const { name, labels, value } of this.world.host?.takeSamples(true) ?? [])
      this.#metrics.set(`${name} ${JSON.stringify(labels)}`, value);
    return this.#metrics;
  }
}

/** Serves, and expects that the connector was disabled for `reason`, after a line about what it did. */
export async function expectDisabled(
  hostile: ServingWorld,
  did: string,
  reason: string,
): Promise<void> {
  await hostile.serve();
  hostile.expectNothingLeft();
  const end = "what it holds is released, what it offers counts as a miss";
  expect(hostile.lines).toEqual([
    expect.stringContaining(`connector hostile: ${did}`),
    `connector hostile is disabled: ${reason}; ${end}`,
  ]);
  expect(hostile.isDisabled()).toBe(true);
  await hostile.world.stop();
}
