/**
 * A scheduler on the witness, with connectors or without, whose clock and transfers stand still unless they are told to go on: what
 * happens in it follows from what it is told alone. For the suite that outside connectors are tried with.
 */

import type { KvConnector } from "../../../connectors/connector.ts";
import type { TrialCounts } from "../../../connectors/trial-counts.ts";
import type { GroupSpec } from "../../cache/kv-cache.ts";
import type { RequestLimits } from "../../request-limits.ts";
import type { Finish, GenerateRequest } from "../../request.ts";
import { hashBlocks, hashEach, noneHash } from "../../runner/native.ts";
import { NativeRunner } from "../../runner/native-runner.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import type { StepEvents } from "../../scheduler/step-events.ts";
import { ConnectorHost } from "../connector-host.ts";
import type { LogLine } from "../connector-log.ts";
import { joinScheduler } from "../join-scheduler.ts";
import type { KvConnectors } from "../kv-connectors.ts";
import type { LoadedTier } from "../tiers/js-tier-port.ts";
import { FlightDesk } from "./flight-desk.ts";

const MAX_SEQS = 4;
const MAX_TOKENS = 32;
export const TRIAL_LIMITS: Omit<RequestLimits, "groups" | "numBlocks"> = {
  maxModelLen: 256,
  vocabSize: 64,
  blockSize: 4,
  maxInFlightTokens: 2 * MAX_TOKENS,
};
const MANUAL = {
  threads: 1,
  fileThreads: 1,
  checksums: true,
  storeShare: 1,
  linkBytesPerSecond: 0,
  guardSteps: true,
  manual: true,
} as const;
/** Milliseconds of an engine whose steps take one. A hold that lasts to its deadline was forgotten. */
const TIMES = { lookupTimeoutMs: 20, loadTimeoutMs: 40, recallMs: 10, holdTtlMs: 5_000 } as const;
/** Steps and pauses after which a request that has not ended never will. */
const MOST_TURNS = 20_000;
/** Milliseconds for which an answer of a tier is waited for. */
const PATIENCE_TURNS = 1000;

export interface TrialEngineOptions {
  readonly groups: readonly GroupSpec[];
  /** The null block left out. */
  readonly numBlocks: number;
  readonly connectors?: {
    readonly name: string;
    readonly connector: KvConnector;
    readonly tiers: readonly LoadedTier[];
    readonly hostPages: number;
    readonly log: LogLine;
  };
}

export interface TrialAnswer {
  readonly tokens: number[];
  finish: Finish | undefined;
}

export class TrialEngine {
  readonly answers: Map<number, TrialAnswer> = new Map();
  readonly desk: FlightDesk | undefined;
  readonly host: ConnectorHost | undefined;
  readonly #connectors: KvConnectors | undefined;
  readonly #runner: NativeRunner;
  readonly #scheduler: Scheduler;
  /** What connectors have asked for since: run between steps, where it follows from the seed. */
  readonly #deferred: (() => void)[] = [];
  #now = 1;
  /** Calls of tiers that were waited for in vain. */
  #numHung = 0;

  private constructor(runner: NativeRunner, options: TrialEngineOptions) {
    const { groups, numBlocks, connectors } = options;
    this.#runner = runner;
    let joined: KvConnectors | undefined;
    const now = (): number => this.#now;
    if (connectors !== undefined) {
      const { name, connector, tiers, hostPages, log } = connectors;
      this.desk = new FlightDesk(
        (onResults) => runner.openTransfers({ ...MANUAL, hostPages }, onResults),
        (results) => joined?.flights.report(results),
      );
      this.host = new ConnectorHost([{ name, connector, tiers }], {
        slowHookMs: Infinity,
        now,
        log,
      });
    }
    const { desk, host } = this;
    this.#scheduler = new Scheduler(
      {
        maxNumSeqs: MAX_SEQS,
        maxNumBatchedTokens: MAX_TOKENS,
        maxSamples: MAX_SEQS + 32,
        schedulingPolicy: "fcfs",
        tpotSlo: 0,
        enablePrefixCaching: connectors !== undefined,
        speculative: "none",
        speculativeTokens: 1,
        speculativeNgram: [1, 1],
        limits: { ...TRIAL_LIMITS, groups, numBlocks },
      },
      {
        createStopChecker: () => () => undefined,
        hashBlocks,
        hashEach,
        noneHash: noneHash("0"),
        now,
        ...(host === undefined || desk === undefined
          ? {}
          : {
              createConnectors: (side) => {
                const all = { ...TIMES, maxHeld: 0, maxFlying: 16, maxBatchedTokens: MAX_TOKENS };
                const defer = (task: () => void): void => void this.#deferred.push(task);
                joined = joinScheduler(side, host, desk, { ...all, defer }, () => this.#fill());
                return joined;
              },
            }),
      },
    );
    this.#connectors = joined;
  }

  static async create(options: TrialEngineOptions): Promise<TrialEngine> {
    const runner = new NativeRunner();
    await runner.start({
      backend: "witness",
      isa: "auto",
      threads: 1,
      values: [],
      ops: [],
      files: [],
      tensors: [],
      groups: options.groups.map((group) => ({ ...group, layers: 1, numKvHeads: 1, headDim: 1 })),
      maxRows: MAX_SEQS,
      maxTokens: MAX_TOKENS,
      maxSamples: MAX_SEQS + 32,
      maxModelLen: TRIAL_LIMITS.maxModelLen,
      blockSize: TRIAL_LIMITS.blockSize,
      vocabSize: TRIAL_LIMITS.vocabSize,
      numBlocks: options.numBlocks + 1,
    });
    const engine = new TrialEngine(runner, options);
    await engine.desk?.untilReady();
    return engine;
  }

  /** Blocks that the connectors hold. */
  get numHeld(): number {
    return this.#connectors?.ledgers.numHeld ?? 0;
  }

  /** What the connectors have done so far; `kept`: pages that they have now. */
  get counts(): TrialCounts {
    const { counts, loads, pages, pageBytes } = this.#connectors ?? {};
    const storedBytes = counts?.sum("store", ({ bytesByTier }) =>
      [...bytesByTier.values()].reduce((sum, bytes) => sum + bytes, 0),
    );
    return {
      stored: (storedBytes ?? 0) / (pageBytes ?? 1),
      promised: loads?.numPromised ?? 0,
      loaded: loads?.numArrived ?? 0,
      neverBegun: loads?.numBroken ?? 0,
      storesRefused: [...(counts?.refusedOf(0).values() ?? [])].reduce((sum, one) => sum + one, 0),
      loadsRefused: loads?.numRefused ?? 0,
      kept: pages?.numUsed ?? 0,
    };
  }

  add(handle: number, request: GenerateRequest): void {
    this.answers.set(handle, { tokens: [], finish: undefined });
    this.#scheduler.add(handle, request);
  }

  abort(handle: number): void {
    this.#take(this.#scheduler.abort(handle));
  }

  reset(): void {
    this.#scheduler.resetPrefixCache();
  }

  /** Two steps are submitted where there is something to compute, and the older one is committed. False = there was none. */
  async step(): Promise<boolean> {
    const runner = this.#runner;
    // When the threads answer decides nothing.
    await this.#settled();
    this.#fill();
    // What this leads to waits for the next step: a connector may ask each time.
    for (const task of this.#deferred.splice(0)) task();
    this.#scheduler.checkIntegrity();
    if (runner.queued === 0) return false;
    this.#take(this.#scheduler.commit(await runner.next()));
    this.#now++;
    return true;
  }

  pass(ms: number): void {
    this.#now += ms;
  }

  /** Until nothing is to be done and nothing is awaited; false = requests are left that never end. */
  async drain(): Promise<boolean> {
    const { desk } = this;
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      if (await this.step()) continue;
      if (desk?.isSettling === true || this.#isAwaited) {
        await this.#settled();
        continue;
      }
      const ms = this.#scheduler.msToDeadline();
      const flight = desk?.next ?? (ms === Infinity ? desk?.pending[0] : undefined);
      if (flight !== undefined) await desk?.run(flight);
      else if (ms < Infinity) this.pass(Math.max(1, ms));
      else return this.#scheduler.numUnfinished === 0;
    }
    return false;
  }

  /** Whether tiers have calls open that may still settle. */
  get #isAwaited(): boolean {
    return (this.#connectors?.tiers.numUnderWay ?? 0) > this.#numHung;
  }

  /** Tiers take their time, and the engine's clock stands still meanwhile; those that never answer are waited for once. */
  async #settled(): Promise<void> {
    for (let turn = 0; turn < PATIENCE_TURNS; turn++) {
      await this.desk?.settled();
      if (!this.#isAwaited) return;
      await Bun.sleep(turn === 0 ? 0 : 1);
    }
    this.#numHung = this.#connectors?.tiers.numUnderWay ?? 0;
  }

  async stop(): Promise<void> {
    await this.host?.shutdown(1000);
    await this.desk?.stop(1000);
    await this.#runner.stop();
  }

  /** As the engine does, whenever it is woken. */
  #fill(): void {
    this.#scheduler.settle();
    while (this.#runner.queued < 2) {
      const batch = this.#scheduler.schedule();
      if (batch === undefined) return;
      this.#runner.submit(batch);
    }
  }

  #take({ handles, tokenStart, tokenIds, finishes }: StepEvents): void {
    for (const [i, handle] of handles.entries()) {
      const some = tokenIds.subarray(tokenStart[i], tokenStart[i + 1]);
      this.answers.get(handle)?.tokens.push(...some);
    }
    for (const { index, finish } of finishes) {
      const answer = this.answers.get(handles[index] as number);
      if (answer !== undefined) answer.finish = finish;
    }
  }
}
