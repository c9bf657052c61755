/** A connector host over an empty engine, with the clock, the log and the marks in the test's hands. */

import type {
  BlockHashes,
  KvConnector,
  LoadPlan,
  RequestView,
  SchedulerContext,
  SchedulerOutput,
} from "../../connectors/connector.ts";
import { createEmptyEngine } from "../../connectors/empty-engine.ts";
import { ConnectorHost, type NamedConnector } from "../../engine/connectors/connector-host.ts";
import { HookTurn } from "../../engine/connectors/hook-turn.ts";
import type { BlockMarks } from "../../engine/connectors/look-up.ts";

export const SLOW_MS = 100;

export const REQUEST: RequestView = {
  id: "request-1",
  numPromptTokens: 65,
  numTokens: 65,
  priority: 0,
  arrivalTime: 0,
  transferParams: () => undefined,
  tokenIds: () => new Int32Array(65),
};
export const HASHES: BlockHashes = { length: 4, keyOf: (block, group) => `${block}/${group}` };
export const EMPTY_PLAN: LoadPlan = { blocks: [], deadline: 0 };
export const OUTPUT: SchedulerOutput = {
  stepId: 1,
  numScheduledTokens: 1,
  numInFlight: 1,
  numAllocatedBlocks: 0,
  completed: [],
};

export interface Mark {
  readonly connector: number;
  readonly block: number;
  readonly group: number;
  readonly tier: string;
}

/** Four missing blocks of two groups; the first mark of a block counts. */
export class RecordedMarks implements BlockMarks {
  readonly numBlocks = 4;
  readonly numDeviceBlocks = 1;
  readonly numGroups = 2;
  readonly blockSize = 16;
  marks: Mark[] = [];

  isWanted(block: number, group: number): boolean {
    const isMissing = block >= this.numDeviceBlocks;
    return isMissing && !this.marks.some((mark) => mark.block === block && mark.group === group);
  }

  mark(connector: number, block: number, group: number, tier: string): void {
    this.marks.push({ connector, block, group, tier });
  }

  unmark(connector: number): void {
    this.marks = this.marks.filter((mark) => mark.connector !== connector);
  }
}

export class ConnectorWorld {
  /** Milliseconds. */
  time = 0;
  readonly lines: string[] = [];
  readonly disabled: number[] = [];
  readonly contexts: SchedulerContext[] = [];
  readonly turn: HookTurn = new HookTurn();
  readonly host: ConnectorHost;

  constructor(connectors: readonly (KvConnector | NamedConnector)[]) {
    const named = connectors.map((one, place) =>
      "connector" in one ? one : { name: String.fromCodePoint(97 + place), connector: one },
    );
    this.host = new ConnectorHost(named, {
      turn: this.turn,
      slowHookMs: SLOW_MS,
      now: () => this.time,
      log: (level, message) => this.lines.push(`${level}: ${message}`),
    });
  }

  start(): this {
    this.host.start({
      viewOf: (_place, name) => createEmptyEngine(name, () => this.time).view,
      contextOf: (_place, own) => {
        const context = { ...createEmptyEngine(own.name, () => this.time).context, ...own };
        this.contexts.push(context);
        return context;
      },
      onDisabled: (place) => this.disabled.push(place),
      onShutdown: () => {},
    });
    return this;
  }

  /** Asks for the blocks of the request; what is marked, and the answer. */
  lookUp(): { readonly answer: "pending" | undefined; readonly marks: readonly Mark[] } {
    const recorded = new RecordedMarks();
    const answer = this.host.findBlocks(REQUEST, HASHES, recorded);
    return { answer, marks: recorded.marks };
  }

  /** Every hook once, in the order of a request's life; `shutdown` left out. */
  callAll(): void {
    const { host } = this;
    host.newRequest(REQUEST);
    this.lookUp();
    host.afterAlloc(REQUEST, () => EMPTY_PLAN);
    host.buildMeta(OUTPUT);
    for (let place = 0; place < host.numConnectors; place++) host.transfersEnded(place, []);
    host.preempted(["request-1"], [true]);
    host.pressure(1, this.time);
    host.finished(REQUEST, [[]]);
    host.takeEvents();
    host.reset(1);
    this.samples();
  }

  /** Faults of a kind that a connector was found in. */
  faults(name: string, kind: string): number {
    const sample = this.samples().find(
      (one) =>
        one.name === "kvengine:connector_faults_total" &&
        one.labels["connector"] === name &&
        one.labels["kind"] === kind,
    );
    return sample?.value ?? 0;
  }

  readonly #values = new Map<string, ReturnType<ConnectorHost["takeSamples"]>[number]>();

  /** The last value of every series. */
  samples(): readonly ReturnType<ConnectorHost["takeSamples"]>[number][] {
    for (const sample of this.host.takeSamples(true))
      this.#values.set(JSON.stringify([sample.name, sample.labels]), sample);
    return [...this.#values.values()];
  }
}
