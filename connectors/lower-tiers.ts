/** What lies below the host's pages, as the host level (`cpu-offload.ts`) speaks to it. */

import type {
  BlockHashes,
  BlockId,
  BlockKey,
  KvEvent,
  PlannedBlock,
  SchedulerContext,
  WantedBlocks,
} from "./connector.ts";
import type { HostLevel } from "./host-level.ts";

/** The host level, as what lies below it uses it. */
export interface Above {
  readonly host: HostLevel;
  /** Copies blocks that are ready in host pages to blocks of open plans; they are pinned until they have arrived. */
  load(keys: readonly BlockKey[], blocks: readonly BlockId[]): void;
}

export interface LowerTiers {
  start(context: SchedulerContext, above: Above): void;
  /** Marks what is not in host pages and can be brought from below. */
  find(hashes: BlockHashes, wanted: WantedBlocks): "pending" | undefined;
  /** Brings blocks of a plan that are not in host pages, by `deadline` at the latest, or gives them up. */
  bring(blocks: readonly PlannedBlock[], deadline: number): void;
  /** Begins to bring content to host pages that no block waits for. Answers what of it may still come. */
  fetch(keys: readonly BlockKey[]): readonly BlockKey[];
  /** Content of host pages that tiers which outlast the process are to have. */
  keep(keys: readonly BlockKey[]): void;
  /** A request of this priority has used the content: tiers that know weights keep what is urgent longer. */
  used(keys: readonly BlockKey[], priority: number): void;
  /** These are in host pages since now. */
  stored(keys: readonly BlockKey[]): void;
  /** These have left the host's pages. */
  forgotten(keys: readonly BlockKey[]): void;
  /** A load of this block from its host page has landed, or was given up. */
  landed(key: BlockKey): void;
  /** Called in each hook that follows news. */
  work(): void;
  reset(): void;
  takeEvents(): readonly KvEvent[];
  /** Sets the gauges of now. */
  report(): void;
  shutdown(deadline: number): Promise<void>;
}
