/** What each connector's flights came to since the start: for metrics. */

export type FlightKind = "store" | "load";
export type FlightOutcome = "ok" | "failed" | "cancelled";

export interface FlightCounts {
  begun: number;
  readonly ended: Record<FlightOutcome, number>;
  /** Time that threads spent copying, in microseconds. */
  copyMicros: number;
  /** Bytes that arrived, by tier. */
  readonly bytesByTier: Map<string, number>;
}

type Counts = Readonly<Record<FlightKind, FlightCounts>>;

export class TransferCounts {
  readonly #byConnector: readonly Counts[];

  readonly #refused: readonly Map<string, number>[];

  constructor(numConnectors: number) {
    this.#byConnector = Array.from({ length: numConnectors }, () => ({
      store: noFlights(),
      load: noFlights(),
    }));
    this.#refused = Array.from({ length: numConnectors }, () => new Map());
  }

  of(connector: number, kind: FlightKind): FlightCounts {
    return (this.#byConnector[connector] as Counts)[kind];
  }

  arrived(connector: number, kind: FlightKind, tier: string, bytes: number): void {
    const { bytesByTier } = this.of(connector, kind);
    bytesByTier.set(tier, (bytesByTier.get(tier) ?? 0) + bytes);
  }

  /** A store of so many blocks was refused. */
  refused(connector: number, reason: string, blocks: number): void {
    const counts = this.refusedOf(connector);
    counts.set(reason, (counts.get(reason) ?? 0) + blocks);
  }

  /** Blocks of refused stores, by reason. */
  refusedOf(connector: number): Map<string, number> {
    return this.#refused[connector] as Map<string, number>;
  }

  /** Of all connectors. */
  sum(kind: FlightKind, read: (counts: FlightCounts) => number): number {
    return this.#byConnector.reduce((sum, counts) => sum + read(counts[kind]), 0);
  }
}

function noFlights(): FlightCounts {
  return {
    begun: 0,
    ended: { ok: 0, failed: 0, cancelled: 0 },
    copyMicros: 0,
    bytesByTier: new Map(),
  };
}
