/** What `KvConnectors` needs of those who call connectors. Connectors are named by their places, from 0 on. */

import type {
  BlockHashes,
  LoadPlan,
  RequestView,
  SchedulerOutput,
  TransferResult,
} from "../../connectors/connector.ts";
import type { ConnectorEvents } from "./connector-host.ts";
import type { FaultKind } from "./connector-faults.ts";
import type { Hook } from "./hooks.ts";
import type { BlockMarks } from "./look-up.ts";

/** The connectors as they are called: in order, each behind its guard. No method throws. `ConnectorHost` is one. */
export interface ConnectorCalls {
  readonly numConnectors: number;
  newRequest(request: RequestView): void;
  findBlocks(request: RequestView, hashes: BlockHashes, marks: BlockMarks): "pending" | undefined;
  afterAlloc(request: RequestView, planOf: (place: number) => LoadPlan): void;
  buildMeta(output: SchedulerOutput): void;
  transfersEnded(place: number, results: readonly TransferResult[]): void;
  finished(
    request: RequestView,
    blocksByGroup: readonly (readonly number[])[],
  ): Readonly<Record<string, unknown>> | undefined;
  /** `areSwapped`: see `KvConnector.onPreempted`. */
  preempted(requestIds: readonly string[], areSwapped: readonly boolean[]): void;
  pressure(numBlocks: number, deadline: number): void;
  takeEvents(): readonly ConnectorEvents[];
  reset(generation: number): void;
  /** Those that answered `pending` in the last look-up have had `ms` for it. */
  lookUpOverdue(ms: number): void;
  /** What a connector did wrong without a call of it: counted, and told in the log. `text` follows the hook's name. */
  fault(place: number, kind: FaultKind, hook: Hook | undefined, text: string): void;
}
