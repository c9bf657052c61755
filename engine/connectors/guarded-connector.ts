/**
 * One connector behind a wall. Every call into its code goes through `#call`: it is the only one that runs, what it throws ends here,
 * what it answers is checked and copied, how long it took is measured. A connector that throws or holds up the engine is disabled:
 * nothing of it is called again. No method of this class throws.
 */

import {
  readEnding,
  readEvents,
  readLookUp,
  readNothing,
  readParams,
  readStats,
} from "../../connectors/answers.ts";
import type {
  BlockHashes,
  BlockId,
  GpuBlockPoolView,
  KvConnector,
  KvEvent,
  LoadPlan,
  RequestView,
  SchedulerContext,
  SchedulerOutput,
  TransferResult,
} from "../../connectors/connector.ts";
import { showThrown } from "../../connectors/safe-text.ts";
import type { ConnectorFaults, FaultKind } from "./connector-faults.ts";
import type { HookTurn } from "./hook-turn.ts";
import { HOOK_NUMBER, HOOKS, type Hook } from "./hooks.ts";
import { type BlockMarks, LookUp } from "./look-up.ts";

export interface GuardOptions {
  readonly name: string;
  /** Its place among the connectors. */
  readonly place: number;
  /** By which `turn` names it. */
  readonly index: number;
  readonly turn: HookTurn;
  readonly faults: ConnectorFaults;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** A hook that takes longer disables its connector. */
  readonly slowHookMs: number;
  /** Called once, when no hook runs any more. Must not throw. */
  readonly onDisabled: (reason: string) => void;
}

/** `new`: hooks of the start-up only. `ready`: all. `closed`: none. */
type State = "new" | "ready" | "closed";

export class GuardedConnector {
  readonly name: string;
  readonly #connector: KvConnector;
  readonly #options: GuardOptions;
  readonly #lookUp: LookUp;
  /** By the hook's number: calls, and milliseconds in them. */
  readonly #calls = new Float64Array(HOOKS.length);
  readonly #ms = new Float64Array(HOOKS.length);
  #state: State = "new";
  #disabled = false;

  constructor(connector: KvConnector, options: GuardOptions) {
    this.name = options.name;
    this.#connector = connector;
    this.#options = options;
    this.#lookUp = new LookUp(options.name, options.place);
  }

  get disabled(): boolean {
    return this.#disabled;
  }

  /** Calls of a hook so far, and milliseconds in them. */
  costOf(hook: Hook): { readonly calls: number; readonly ms: number } {
    const number = HOOK_NUMBER[hook];
    return { calls: this.#calls[number] as number, ms: this.#ms[number] as number };
  }

  bindGpuBlockPool(view: GpuBlockPoolView): void {
    const call = (): unknown => this.#connector.bindGpuBlockPool(view);
    this.#call("new", "bindGpuBlockPool", call, readNothing, undefined);
  }

  onSchedulerReady(context: SchedulerContext): void {
    const call = (): unknown => this.#connector.onSchedulerReady(context);
    this.#call("new", "onSchedulerReady", call, readNothing, undefined);
    if (this.#state === "new") this.#state = "ready";
  }

  onNewRequest(request: RequestView): void {
    const call = (): unknown => this.#connector.onNewRequest(request);
    this.#call("ready", "onNewRequest", call, readNothing, undefined);
  }

  findBlocks(request: RequestView, hashes: BlockHashes, marks: BlockMarks): "pending" | undefined {
    let wrong: string | undefined;
    const call = (): unknown => {
      this.#lookUp.open(marks);
      try {
        return this.#connector.findBlocks(request, hashes, this.#lookUp);
      } finally {
        wrong = this.#lookUp.close();
      }
    };
    const answer = this.#call("ready", "findBlocks", call, readLookUp, undefined);
    if (wrong !== undefined) this.#options.faults.add("answer", "findBlocks", wrong);
    if (this.#disabled) marks.unmark(this.#options.place);
    return answer;
  }

  updateStateAfterAlloc(request: RequestView, plan: LoadPlan): void {
    const call = (): unknown => this.#connector.updateStateAfterAlloc(request, plan);
    this.#call("ready", "updateStateAfterAlloc", call, readNothing, undefined);
  }

  buildConnectorMeta(output: SchedulerOutput): void {
    const call = (): unknown => this.#connector.buildConnectorMeta(output);
    this.#call("ready", "buildConnectorMeta", call, readNothing, undefined);
  }

  updateConnectorOutput(transfers: readonly TransferResult[]): void {
    const call = (): unknown => this.#connector.updateConnectorOutput(transfers);
    this.#call("ready", "updateConnectorOutput", call, readNothing, undefined);
  }

  requestFinished(
    request: RequestView,
    blocksByGroup: readonly (readonly BlockId[])[],
  ): Readonly<Record<string, unknown>> | undefined {
    const call = (): unknown => this.#connector.requestFinished(request, blocksByGroup);
    return this.#call("ready", "requestFinished", call, readParams, undefined);
  }

  onPreempted(requestIds: readonly string[], areSwapped: readonly boolean[]): void {
    const call = (): unknown => this.#connector.onPreempted(requestIds, areSwapped);
    this.#call("ready", "onPreempted", call, readNothing, undefined);
  }

  onMemoryPressure(numBlocks: number, deadline: number): void {
    const call = (): unknown => this.#connector.onMemoryPressure(numBlocks, deadline);
    this.#call("ready", "onMemoryPressure", call, readNothing, undefined);
  }

  takeEvents(): readonly KvEvent[] {
    return this.#call("ready", "takeEvents", () => this.#connector.takeEvents(), readEvents, []);
  }

  resetCache(generation: number): void {
    const call = (): unknown => this.#connector.resetCache(generation);
    this.#call("ready", "resetCache", call, readNothing, undefined);
  }

  stats(): readonly (readonly [name: string, value: number])[] {
    return this.#call("ready", "stats", () => this.#connector.stats(), readStats, []);
  }

  /** The last call. What it answers settles when the connector has ended, and never rejects. */
  shutdown(deadline: number): Promise<void> | undefined {
    const call = (): unknown => this.#connector.shutdown(deadline);
    // Nobody may wait for it: then, too, a rejection must end here.
    const read = (answer: unknown): Promise<void> | undefined => {
      const ending = readEnding(answer);
      return ending === undefined ? undefined : this.#settled("shutdown", ending);
    };
    const ending = this.#call("ready", "shutdown", call, read, undefined);
    this.#state = "closed";
    return ending;
  }

  /** What its `shutdown` promised has not come by the deadline. */
  endedLate(): void {
    this.#options.faults.add("late", "shutdown", "did not end by its deadline");
  }

  /** Its code threw while none of its hooks ran: in a timer, or in a promise that nothing waits for. */
  threwOutside(thrown: unknown): void {
    this.#options.faults.add(
      "outside",
      undefined,
      `threw outside its hooks: ${showThrown(thrown)}`,
    );
    this.#disable("its code threw outside its hooks");
  }

  #call<T>(
    state: State,
    hook: Hook,
    invoke: () => unknown,
    read: (answer: unknown) => T,
    otherwise: T,
  ): T {
    if (this.#disabled || this.#state !== state) return otherwise;
    const { turn, index, faults, now, slowHookMs } = this.#options;
    const start = now();
    if (!turn.begin(index, hook)) {
      const whose = turn.connector === index ? "its own" : "another connector's";
      faults.add(
        "overlap",
        hook,
        `was left out, since it came while ${whose} ${turn.hook} ran: do what led to it later, in a timer or a microtask`,
      );
      return otherwise;
    }
    let answer = otherwise;
    let fault: FaultKind | undefined;
    let text = "";
    try {
      fault = "throw";
      const raw = invoke();
      // To look at what it answered may run its code too.
      fault = "answer";
      if (hook !== "shutdown" && isThenable(raw)) {
        fault = "promise";
        text = "answered a promise; nothing waits for it";
        if (raw instanceof Promise) void this.#settled(hook, raw);
      } else {
        answer = read(raw);
        fault = undefined;
      }
    } catch (thrown) {
      text = fault === "throw" ? `threw ${showThrown(thrown)}` : showAnswerFault(thrown);
    }
    turn.end();
    const ms = now() - start;
    const number = HOOK_NUMBER[hook];
    this.#calls[number] = (this.#calls[number] as number) + 1;
    this.#ms[number] = (this.#ms[number] as number) + ms;
    if (fault !== undefined) faults.add(fault, hook, text);
    if (fault === "throw") this.#disable(`${hook} threw`);
    if (ms > slowHookMs) {
      faults.add(
        "slow",
        hook,
        `held up the engine for ${Math.round(ms)} ms; allowed are ${slowHookMs}`,
      );
      this.#disable(`${hook} held up the engine`);
    }
    return this.#disabled ? otherwise : answer;
  }

  /** Settles with the promise of a hook, whatever becomes of it. A rejection is a throw that came later. */
  async #settled(hook: Hook, promise: Promise<unknown>): Promise<void> {
    try {
      await promise;
    } catch (thrown) {
      this.#options.faults.add("throw", hook, `threw later ${showThrown(thrown)}`);
      this.#disable(`${hook} threw`);
    }
  }

  #disable(reason: string): void {
    if (this.#disabled) return;
    this.#disabled = true;
    this.#options.onDisabled(reason);
  }
}

function isThenable(value: unknown): boolean {
  if (typeof value !== "object" && typeof value !== "function") return false;
  return value !== null && typeof (value as { readonly then?: unknown }).then === "function";
}

function showAnswerFault(thrown: unknown): string {
  return thrown instanceof TypeError && thrown.message.startsWith("answered")
    ? thrown.message
    : `answered what cannot be read: ${showThrown(thrown)}`;
}
