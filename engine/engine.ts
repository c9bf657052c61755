/**
 * The engine: a scheduler that decides, a runner that computes, and the loop between them. It knows no HTTP, no text and
 * no threads; `engine-worker.ts` gives it messages, tests give it a fake runner.
 */

import type { PageTransfers } from "./cache/page-transfers.ts";
import type { ConnectorHost } from "./connectors/connector-host.ts";
import { KvEngineError, toKvEngineError } from "./errors.ts";
import type { EngineStats, GenerateRequest } from "./request.ts";
import { type ModelRunner, QUEUE_DEPTH } from "./runner/model-runner.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import type { StepEvents } from "./scheduler/step-events.ts";

/** Receives what each committed step, and each abort, brought. Must not throw. */
export type Publish = (events: StepEvents, stats: EngineStats) => void;

/** Time that connectors get to end, once nothing runs any more. */
const CONNECTOR_SHUTDOWN_MS = 5000;

/** Time that page copies under way get to end. */
const TRANSFER_SHUTDOWN_MS = 5000;

export class Engine {
  readonly #scheduler: Scheduler;
  readonly #runner: ModelRunner;
  readonly #publish: Publish;
  readonly #connectors: ConnectorHost | undefined;
  readonly #transfers: Pick<PageTransfers, "stop"> | undefined;
  /** Ends the sleep of an idle loop. */
  #wake: (() => void) | undefined;
  #stopping = false;
  /** What was thrown while steps were submitted, whoever asked for it: it ends the loop, not its caller. */
  #fault: KvEngineError | undefined;

  constructor(
    scheduler: Scheduler,
    runner: ModelRunner,
    publish: Publish,
    connectors?: ConnectorHost,
    transfers?: Pick<PageTransfers, "stop">,
  ) {
    this.#transfers = transfers;
    this.#scheduler = scheduler;
    this.#runner = runner;
    this.#publish = publish;
    this.#connectors = connectors?.numConnectors === 0 ? undefined : connectors;
  }

  /** Numbers of now, for the message that carries them: `stepTokens` and `connectors` are given once. */
  takeStats(): EngineStats {
    const stats = this.#scheduler.takeStats();
    const connectors = this.#connectors?.takeSamples(this.#runner.queued === 0) ?? [];
    return connectors.length === 0 ? stats : { ...stats, connectors };
  }

  /** Drops all cached prefixes; requests that run go on. Answers the new generation of the cache. */
  resetPrefixCache(): number {
    return this.#scheduler.resetPrefixCache();
  }

  /** Something that requests wait for has happened: they are looked at again. */
  news(): void {
    this.#fill();
    this.#wake?.();
  }

  /** Queues a request; `handle` names it in events and in `abort`. Throws when it can never be served. */
  add(handle: number, request: GenerateRequest): void {
    if (this.#stopping)
      throw new KvEngineError("unavailable", "the engine is stopping", { subject: request.id });
    this.#scheduler.add(handle, request);
    this.#fill();
    this.#wake?.();
  }

  /** Ends a request; its last event is published before this returns. One that has ended is left alone. */
  abort(handle: number): void {
    const events = this.#scheduler.abort(handle);
    if (events.handles.length > 0) this.#publish(events, this.takeStats());
    this.#fill();
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
          await this.#sleep();
          continue;
        }
        const events = this.#scheduler.commit(await this.#runner.next());
        // The device gets its next step before anybody reads about the last one.
        this.#fill();
        // The step that frees an aborted request's blocks has no events; its numbers must not wait for the next request.
        if (events.handles.length > 0 || this.#runner.queued === 0)
          this.#publish(events, this.takeStats());
      }
    } catch (thrown) {
      this.#stopping = true;
      const { code, message } = toKvEngineError(thrown);
      this.#publish(this.#scheduler.endAll("error", { code, message }), this.takeStats());
      throw thrown;
    }
  }

  /** Ends what runs as aborted, then the loop, then the runner. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const events = this.#scheduler.endAll("abort");
    if (events.handles.length > 0) this.#publish(events, this.takeStats());
    this.#wake?.();
    await this.#connectors?.shutdown(CONNECTOR_SHUTDOWN_MS);
    // Before the runner: its memory is what they copy.
    await this.#transfers?.stop(TRANSFER_SHUTDOWN_MS);
    await this.#runner.stop();
  }

  /** Keeps steps submitted, as long as there is something to compute. */
  #fill(): void {
    try {
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
