/**
 * The engine: a scheduler that decides, a runner that computes, and the loop between them. It knows no HTTP, no text and
 * no threads; `engine-worker.ts` gives it messages, tests give it a fake runner.
 */

import type { PageTransfers } from "./cache/page-transfers.ts";
import type { ConnectorHost } from "./connectors/connector-host.ts";
import { errorFromData, KvEngineError, toKvEngineError } from "./errors.ts";
import type { StepsProfile } from "./runner/profile.ts";
import type { EngineStats, GenerateRequest } from "./request.ts";
import { type ModelRunner, QUEUE_DEPTH } from "./runner/model-runner.ts";
import type { ReadAhead } from "./read-ahead.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import { NO_EVENTS, type StepEvents } from "./scheduler/step-events.ts";

/** Receives what each committed step, and each abort, brought, and numbers that have changed. Must not throw. */
export type Publish = (events: StepEvents, stats: EngineStats) => void;

/** What an engine may have beside a scheduler and a runner. */
export interface EngineSides {
  readonly connectors?: ConnectorHost | undefined;
  readonly transfers?: Pick<PageTransfers, "stop"> | undefined;
  /** Bounds how far the loop runs ahead of those who read what it publishes; default: it does not wait for them. */
  readonly readAhead?: Pick<ReadAhead, "room"> | undefined;
}

/** Time that connectors get to end, once nothing runs any more. */
const CONNECTOR_SHUTDOWN_MS = 5000;

/** Time that page copies under way get to end. */
const TRANSFER_SHUTDOWN_MS = 5000;

/** Of `EngineStats`, what may change although no request has news. */
type Gauges = Pick<EngineStats, "running" | "waiting" | "usedBlocks">;

export class Engine {
  readonly #scheduler: Scheduler;
  readonly #runner: ModelRunner;
  readonly #onEvents: Publish;
  readonly #connectors: ConnectorHost | undefined;
  readonly #transfers: EngineSides["transfers"];
  readonly #readAhead: EngineSides["readAhead"];
  /** Ends the sleep of an idle loop. */
  #wake: (() => void) | undefined;
  /** The numbers that were published last. */
  #published: Gauges = { running: 0, waiting: 0, usedBlocks: 0 };
  #stopping = false;
  /** What was thrown while steps were submitted, whoever asked for it: it ends the loop, not its caller. */
  #fault: KvEngineError | undefined;

  constructor(
    scheduler: Scheduler,
    runner: ModelRunner,
    publish: Publish,
    { connectors, transfers, readAhead }: EngineSides = {},
  ) {
    this.#transfers = transfers;
    this.#readAhead = readAhead;
    this.#scheduler = scheduler;
    this.#runner = runner;
    this.#onEvents = publish;
    this.#connectors = connectors?.numConnectors === 0 ? undefined : connectors;
  }

  /** Numbers of now, for the message that carries them: `stepTokens` and `connectors` are given once. */
  takeStats(): EngineStats {
    const stats = this.#scheduler.takeStats();
    const connectors = this.#connectors?.takeSamples(this.#runner.queued === 0) ?? [];
    return connectors.length === 0 ? stats : { ...stats, connectors };
  }

  /** Drops all cached prefixes; requests that run go on. Answers the new generation of the cache. See `Scheduler.resetPrefixCache`. */
  resetPrefixCache(resetExternal: boolean): number {
    return this.#scheduler.resetPrefixCache(resetExternal);
  }

  /** What ops have cost since the last call, where it was counted; `on`: whether it is from here on. */
  takeProfile(on: boolean): Promise<StepsProfile> {
    return this.#runner.takeProfile(on);
  }

  /** Something that requests wait for has happened: connectors hear of it at once, and requests are looked at again. */
  news(): void {
    this.#fill();
    this.#publishChanged();
    this.#wake?.();
  }

  /** Queues a request; `handle` names it in events and in `abort`. Throws when it can never be served. */
  add(handle: number, request: GenerateRequest): void {
    if (this.#stopping)
      throw new KvEngineError("unavailable", "the engine is stopping", { subject: request.id });
    this.#scheduler.add(handle, request);
    this.#fill();
    this.#publishChanged();
    this.#wake?.();
  }

  /** Ends a request; its last event is published before this returns. One that has ended is left alone. */
  abort(handle: number): void {
    const events = this.#scheduler.abort(handle);
    if (events.handles.length > 0) this.#publish(events);
    this.#fill();
    this.#publishChanged();
  }

  /**
   * Serves until `stop()`. Sleeps while there is nothing to compute. Throws when the engine itself is at fault; every
   * request has had its error then.
   */
  async run(): Promise<void> {
    try {
      while (!this.#stopping) {
        this.#fill();
        if (this.#fault !== undefined) throw this.#fault;
        if (this.#runner.queued === 0) {
          this.#publishNews();
          await this.#sleep();
          continue;
        }
        const result = await this.#runner.next();
        const events = this.#scheduler.commit(result);
        if (result.error?.code === "device_lost") {
          this.#publish(events);
          throw errorFromData(result.error);
        }
        // The device gets its next step before anybody reads about the last one.
        this.#fill();
        // The step that frees an aborted request's blocks has no events; its numbers must not wait for the next request.
        if (events.handles.length > 0 || this.#runner.queued === 0) this.#publish(events);
        else this.#publishChanged();
        await this.#readAhead?.room();
      }
    } catch (thrown) {
      this.#stopping = true;
      const { code, message } = toKvEngineError(thrown);
      this.#publish(this.#scheduler.endAll("error", { code, message }));
      throw thrown;
    }
  }

  /** Ends what runs as aborted, then the loop, then the runner. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const events = this.#scheduler.endAll("abort");
    if (events.handles.length > 0) this.#publish(events);
    this.#wake?.();
    await this.#connectors?.shutdown(CONNECTOR_SHUTDOWN_MS);
    // Before the runner: its memory is what they copy.
    await this.#transfers?.stop(TRANSFER_SHUTDOWN_MS);
    await this.#runner.stop();
  }

  /** While nothing runs, transfers go on: their numbers are sent without waiting for the next request. */
  #publishNews(): void {
    if (this.#connectors === undefined) return;
    const stats = this.takeStats();
    if (stats.connectors !== undefined) this.#onEvents(NO_EVENTS, stats);
  }

  #publish(events: StepEvents): void {
    const stats = this.takeStats();
    const { running, waiting, usedBlocks } = stats;
    this.#published = { running, waiting, usedBlocks };
    this.#onEvents(events, stats);
  }

  /** Prompts may be computed for long before a request has news: who reads the numbers is not to wait for that. */
  #publishChanged(): void {
    const { numRunning, numWaiting, pool } = this.#scheduler;
    const { running, waiting, usedBlocks } = this.#published;
    if (numRunning === running && numWaiting === waiting && pool.numUsed === usedBlocks) return;
    this.#publish(NO_EVENTS);
  }

  /** Keeps steps submitted, as long as there is something to compute. */
  #fill(): void {
    try {
      this.#scheduler.settle();
      while (this.#runner.queued < QUEUE_DEPTH) {
        const batch = this.#scheduler.schedule();
        if (batch === undefined) return;
        this.#runner.submit(batch);
      }
    } catch (thrown) {
      this.#fault ??= toKvEngineError(thrown);
      this.#wake?.();
    }
  }

  async #sleep(): Promise<void> {
    if (this.#scheduler.numUnfinished > 0 && !this.#scheduler.isBusy) {
      throw new KvEngineError(
        "internal",
        `${this.#scheduler.numUnfinished} requests wait and nothing can run`,
      );
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const ms = this.#scheduler.msToDeadline();
    const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
    await promise;
    clearTimeout(timer);
    this.#wake = undefined;
  }
}
