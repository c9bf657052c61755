/** The engine's numbers about what connectors move and hold, as series: written from time to time, not as they change. */

import type { KvConnectors } from "./kv-connectors.ts";
import { PacedUpdate } from "./paced-update.ts";
import type { SampleStore } from "./sample-store.ts";
import type { FlightCounts, FlightKind, FlightOutcome } from "./transfer-counts.ts";

const KINDS: readonly FlightKind[] = ["load", "store"];
const OUTCOMES: readonly FlightOutcome[] = ["ok", "failed", "cancelled"];

export class TransferSeries {
  readonly #samples: SampleStore;
  readonly #connectors: KvConnectors;
  readonly #names: readonly string[];
  readonly #paced: PacedUpdate;

  /** `names`: those of the connectors, by their places. */
  constructor(
    samples: SampleStore,
    connectors: KvConnectors,
    names: readonly string[],
    now: () => number,
  ) {
    this.#samples = samples;
    this.#connectors = connectors;
    this.#names = names;
    this.#paced = new PacedUpdate(() => this.#write(), now);
    // A series that appears with its first event hides that event from rate().
    this.#write();
  }

  update(isLast: boolean): void {
    this.#paced.update(isLast);
  }

  #write(): void {
    for (const [place, connector] of this.#names.entries()) this.#writeOne(place, connector);
    const { decisions, loads, counts, swaps } = this.#connectors;
    for (const [decision, times] of Object.entries(decisions))
      this.#count("kvengine:kv_load_decisions_total", { decision }, times);
    for (const [decision, times] of Object.entries(swaps.decisions))
      this.#count("kvengine:kv_swap_decisions_total", { decision }, times);
    const outcomes = { arrived: loads.numArrived, failed: loads.numFailed, late: loads.numGivenUp };
    for (const [outcome, blocks] of Object.entries(outcomes))
      this.#count("kvengine:kv_load_blocks_total", { outcome }, blocks);
    this.#count("kvengine:kv_load_joins_total", {}, loads.numJoined);
    for (const kind of KINDS) {
      const bytes = counts.sum(kind, bytesOf);
      const micros = counts.sum(kind, ({ copyMicros }) => copyMicros);
      this.#count(`vllm:kv_offload_${kind}_bytes_total`, {}, bytes);
      this.#count(`vllm:kv_offload_${kind}_time_total`, {}, micros / 1e6);
    }
  }

  #writeOne(place: number, connector: string): void {
    const { counts, ledgers } = this.#connectors;
    for (const kind of KINDS) {
      const { begun, ended, bytesByTier } = counts.of(place, kind);
      let flying = begun;
      for (const outcome of OUTCOMES) {
        const labels = { connector, kind, outcome };
        this.#count("kvengine:connector_flights_ended_total", labels, ended[outcome]);
        flying -= ended[outcome];
      }
      this.#count("kvengine:connector_flights_begun_total", { connector, kind }, begun);
      this.#gauge("kvengine:connector_flights", { connector, kind }, flying);
      for (const [tier, bytes] of bytesByTier)
        this.#count("kvengine:connector_bytes_total", { connector, kind, tier }, bytes);
    }
    for (const [reason, blocks] of counts.refusedOf(place))
      this.#count("kvengine:connector_stores_refused_total", { connector, reason }, blocks);
    const held = ledgers.countsOf(place);
    this.#gauge("kvengine:connector_held_blocks", { connector }, held.numHeld);
    this.#gauge("kvengine:connector_leases", { connector }, held.numLeases);
    this.#count("kvengine:connector_expired_holds_total", { connector }, held.numExpired);
    this.#count("kvengine:connector_lost_blocks_total", { connector }, held.numLost);
    this.#count("kvengine:connector_recalls_total", { connector }, held.numRecalls);
  }

  #count(name: string, labels: Readonly<Record<string, string>>, value: number): void {
    this.#samples.series("counter", name, labels).set(value);
  }

  #gauge(name: string, labels: Readonly<Record<string, string>>, value: number): void {
    this.#samples.series("gauge", name, labels).set(value);
  }
}

function bytesOf({ bytesByTier }: FlightCounts): number {
  let sum = 0;
  for (const bytes of bytesByTier.values()) sum += bytes;
  return sum;
}
