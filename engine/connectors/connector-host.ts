/**
 * All connectors of an engine, in the order in which they were named. The engine calls the host where the interface says that a hook is
 * called; the host calls each connector behind its guard. No method throws, whatever connectors do.
 */

import type {
  BlockHashes,
  ConnectorClass,
  BlockId,
  ConnectorLog,
  ConnectorMetrics,
  GpuBlockPoolView,
  KvConnector,
  KvEvent,
  LoadPlan,
  RequestView,
  SchedulerContext,
  SchedulerOutput,
  TransferResult,
} from "../../connectors/connector.ts";
import type { ConnectorSample } from "../request.ts";
import { ConnectorFaults, type FaultKind } from "./connector-faults.ts";
import { createConnectorLog, type LogLine } from "./connector-log.ts";
import { OwnMetrics } from "./own-metrics.ts";
import { ConnectorSeries } from "./connector-series.ts";
import { GuardedConnector } from "./guarded-connector.ts";
import { HookTurn } from "./hook-turn.ts";
import type { Hook } from "./hooks.ts";
import type { BlockMarks } from "./look-up.ts";
import type { LoadedTier } from "./tiers/js-tier-port.ts";
import { SampleStore } from "./sample-store.ts";

/** A connector that was constructed. */
export interface NamedConnector {
  /** Unique among the host's. */
  readonly name: string;
  readonly connector: KvConnector;
  /** Its place among what was named, which `HookTurn` tells; its place in the list when left out. */
  readonly index?: number;
  /** What it drives. */
  readonly tiers?: readonly LoadedTier[];
}

export interface HostOptions {
  /** Shared with the HTTP thread, or the host's own. */
  readonly turn?: HookTurn;
  readonly slowHookMs: number;
  /** Milliseconds, monotonic: the clock of the connectors' contexts. */
  readonly now: () => number;
  readonly log: LogLine;
}

/** The parts of a connector's context that need no scheduler. */
export interface OwnContext {
  readonly name: string;
  readonly log: ConnectorLog;
  readonly metrics: ConnectorMetrics;
  now(): number;
}

/** What the engine gives to each connector at start-up, and what it hears of them. */
export interface ConnectorParts {
  readonly viewOf: (place: number, name: string) => GpuBlockPoolView;
  readonly contextOf: (place: number, own: OwnContext) => SchedulerContext;
  /**
   * A connector will never be called again: its leases end, its open plans fail, its flights no longer report. Called between hooks,
   * also in the middle of a fan-out. Must not throw.
   */
  readonly onDisabled: (place: number) => void;
  /** All connectors have ended, or had their time: what they hold ends. Must not throw. */
  readonly onShutdown: () => void;
}

/** What happened to a connector's copies. */
export interface ConnectorEvents {
  readonly connector: string;
  readonly events: readonly KvEvent[];
}

/** Writes series when their values are about to be sent. */
interface Updated {
  update(isLast: boolean): void;
}

/** A connector with all that belongs to it. */
interface Hosted {
  readonly place: number;
  readonly index: number;
  readonly tiers: readonly LoadedTier[];
  readonly keepsFiles: boolean;
  readonly guard: GuardedConnector;
  readonly faults: ConnectorFaults;
  readonly own: OwnContext;
  readonly series: ConnectorSeries;
}

export class ConnectorHost {
  readonly #hosted: readonly Hosted[];
  readonly #samples = new SampleStore();
  readonly #options: HostOptions;
  readonly #turn: HookTurn;
  readonly #keepsPages: boolean;
  readonly #watched: Updated[] = [];
  #onDisabled: ((place: number) => void) | undefined;
  #onShutdown: (() => void) | undefined;
  /** Places of those that answered `pending` in the last look-up. */
  #undecided: number[] = [];

  constructor(connectors: readonly NamedConnector[], options: HostOptions) {
    this.#options = options;
    this.#turn = options.turn ?? new HookTurn();
    this.#keepsPages = connectors.some(
      ({ connector }) => (connector.constructor as Partial<ConnectorClass>).keepsPages !== false,
    );
    this.#hosted = connectors.map((one, place) => this.#host(one, place, this.#turn));
  }

  /** With none, no call of the host does anything. */
  get numConnectors(): number {
    return this.#hosted.length;
  }

  nameOf(place: number): string {
    return this.#hosted[place]?.own.name ?? "";
  }

  /** Who runs, in order, and who is called no more. */
  states(): readonly { readonly name: string; readonly isDisabled: boolean }[] {
    return this.#hosted.map(({ own, guard }) => ({ name: own.name, isDisabled: guard.disabled }));
  }

  isDisabled(place: number): boolean {
    return this.#hosted[place]?.guard.disabled ?? true;
  }

  /** Whether any connector may want host pages. */
  get keepsPages(): boolean {
    return this.#keepsPages;
  }

  /** Whether the connector's class says that it keeps files. */
  keepsFiles(place: number): boolean {
    return this.#hosted[place]?.keepsFiles === true;
  }

  /** Whether any connector's does. */
  get someKeepFiles(): boolean {
    return this.#hosted.some(({ keepsFiles }) => keepsFiles);
  }

  /** Whether a hook of this connector runs now. */
  isCalling(place: number): boolean {
    return this.#turn.connector === this.#hosted[place]?.index;
  }

  /** Tiers that a connector drives. */
  tiersOf(place: number): readonly LoadedTier[] {
    return this.#hosted[place]?.tiers ?? [];
  }

  get slowHookMs(): number {
    return this.#options.slowHookMs;
  }

  get log(): LogLine {
    return this.#options.log;
  }

  /** Once, before the first request: every connector gets its view, then every connector its context. */
  start({ viewOf, contextOf, onDisabled, onShutdown }: ConnectorParts): void {
    this.#onDisabled = onDisabled;
    this.#onShutdown = onShutdown;
    for (const { guard, own, place } of this.#hosted)
      guard.bindGpuBlockPool(viewOf(place, own.name));
    for (const { guard, own, place } of this.#hosted) guard.onSchedulerReady(contextOf(place, own));
  }

  /** What else is written into the samples of messages. */
  watch(create: (samples: SampleStore, names: readonly string[]) => Updated): void {
    const names = this.#hosted.map(({ own }) => own.name);
    this.#watched.push(create(this.#samples, names));
  }

  newRequest(request: RequestView): void {
    for (const { guard } of this.#hosted) guard.onNewRequest(request);
  }

  /** All are asked, in order: a block is the first one's that marks it. `pending` when any does not know yet; what others marked stands. */
  findBlocks(request: RequestView, hashes: BlockHashes, marks: BlockMarks): "pending" | undefined {
    this.#undecided = [];
    for (const { guard, place } of this.#hosted)
      if (guard.findBlocks(request, hashes, marks) === "pending") this.#undecided.push(place);
    return this.#undecided.length > 0 ? "pending" : undefined;
  }

  lookUpOverdue(ms: number): void {
    for (const place of this.#undecided)
      this.fault(place, "late", "findBlocks", `was pending for ${ms} ms: a miss`);
  }

  fault(place: number, kind: FaultKind, hook: Hook | undefined, text: string): void {
    this.#hosted[place]?.faults.add(kind, hook, text);
  }

  /** `planOf` answers what of a connector's marks is taken up, which may be nothing. */
  afterAlloc(request: RequestView, planOf: (place: number) => LoadPlan): void {
    for (const { guard, place } of this.#hosted)
      guard.updateStateAfterAlloc(request, planOf(place));
  }

  buildMeta(output: SchedulerOutput): void {
    for (const { guard } of this.#hosted) guard.buildConnectorMeta(output);
  }

  /** Transfers of one connector. */
  transfersEnded(place: number, transfers: readonly TransferResult[]): void {
    this.#hosted[place]?.guard.updateConnectorOutput(transfers);
  }

  /** The client's parameters: as the connector gave them where there is one, else by the connectors' names. */
  finished(
    request: RequestView,
    blocksByGroup: readonly (readonly BlockId[])[],
  ): Readonly<Record<string, unknown>> | undefined {
    const answers: [name: string, params: Readonly<Record<string, unknown>>][] = [];
    for (const { guard, own } of this.#hosted) {
      const params = guard.requestFinished(request, blocksByGroup);
      if (params !== undefined) answers.push([own.name, params]);
    }
    if (answers.length === 0) return undefined;
    return this.#hosted.length === 1 ? answers[0]?.[1] : Object.fromEntries(answers);
  }

  preempted(requestIds: readonly string[], areSwapped: readonly boolean[]): void {
    for (const { guard } of this.#hosted) guard.onPreempted(requestIds, areSwapped);
  }

  pressure(numBlocks: number, deadline: number): void {
    for (const { guard } of this.#hosted) guard.onMemoryPressure(numBlocks, deadline);
  }

  takeEvents(): readonly ConnectorEvents[] {
    const all: ConnectorEvents[] = [];
    for (const { guard, own } of this.#hosted) {
      const events = guard.takeEvents();
      if (events.length > 0) all.push({ connector: own.name, events });
    }
    return all;
  }

  reset(generation: number): void {
    for (const { guard } of this.#hosted) guard.resetCache(generation);
  }

  /** For the next message: series that have changed. `isLast`: no message follows soon, so every number must be of now. */
  takeSamples(isLast: boolean): readonly ConnectorSample[] {
    for (const { series } of this.#hosted) series.update(isLast);
    for (const watched of this.#watched) watched.update(isLast);
    return this.#samples.take();
  }

  /** An error that no hook threw, of a connector's code: in a timer, or in a promise that nothing waits for. */
  threwOutside(place: number, thrown: unknown): void {
    this.#hosted[place]?.guard.threwOutside(thrown);
  }

  /** Once. Answers when every connector has ended, after `timeoutMs` at the latest. */
  async shutdown(timeoutMs: number): Promise<void> {
    const deadline = this.#options.now() + timeoutMs;
    const late = new Set<Hosted>();
    const endings = this.#hosted.map(async (hosted) => {
      const ending = hosted.guard.shutdown(deadline);
      if (ending === undefined) return;
      late.add(hosted);
      await ending;
      late.delete(hosted);
    });
    await within(timeoutMs, Promise.all(endings));
    for (const { guard } of late) guard.endedLate();
    this.#onShutdown?.();
  }

  #host(one: NamedConnector, place: number, turn: HookTurn): Hosted {
    const { name, connector, index = place, tiers = [] } = one;
    const { now, log, slowHookMs } = this.#options;
    const warn = (message: string): void => log("warn", `connector ${name}: ${message}`);
    const faults = new ConnectorFaults(warn, now);
    const guard = new GuardedConnector(connector, {
      name,
      place,
      index,
      turn,
      faults,
      now,
      slowHookMs,
      onDisabled: (reason): void => {
        const end = "what it holds is released, what it offers counts as a miss";
        log("error", `connector ${name} is disabled: ${reason}; ${end}`);
        this.#onDisabled?.(place);
      },
    });
    const own: OwnContext = {
      name,
      now,
      log: createConnectorLog(name, log, now),
      metrics: new OwnMetrics(name, this.#samples, warn),
    };
    const { keepsFiles = false } = connector.constructor as Partial<ConnectorClass>;
    const series = new ConnectorSeries(guard, faults, own.metrics, this.#samples, now);
    return { place, index, tiers, keepsFiles, guard, faults, own, series };
  }
}

/** Answers when the promise has settled, or after `ms`. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: passed, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, passed]);
  clearTimeout(timer);
}
