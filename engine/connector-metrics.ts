/** The series about KV connectors under `/metrics`: names and labels come from the engine while it runs. */

import type { Gauge, Registry } from "prom-client";
import type { ConnectorSample } from "./request.ts";

const HELP: Readonly<Record<string, string>> = {
  "kvengine:connector_bytes_total": "Bytes of KV pages that arrived, by kind of flight and tier",
  "kvengine:connector_expired_holds_total": "Holds of blocks that ended at their deadline",
  "kvengine:connector_flights": "Transfers under way",
  "kvengine:connector_flights_begun_total": "Transfers begun",
  "kvengine:connector_flights_ended_total": "Transfers ended, by outcome",
  "kvengine:connector_held_blocks": "Blocks of the device that the connector holds",
  "kvengine:connector_leases": "Leases of the connector that are open",
  "kvengine:connector_lost_blocks_total": "Blocks evicted of which the connector had no copy",
  "kvengine:connector_recalls_total":
    "Times that held blocks were recalled because requests lacked them",
  "kvengine:connector_stores_refused_total": "Blocks whose store was refused, by reason",
  "kvengine:kv_load_blocks_total": "Blocks that were to be loaded, by what became of it",
  "kvengine:kv_load_decisions_total": "Requests with KV that could be loaded, by what was decided",
  "kvengine:kv_load_joins_total": "Times that a request joined a block's load that was under way",
  "kvengine:kv_swap_decisions_total":
    "Preempted requests, by whether their blocks are copied to the host or computed again",
  "kvengine:session_file_bytes_total": "Bytes of session files that were exported and imported",
  "kvengine:session_kept_bytes":
    "Bytes of the KV pages of frozen sessions; what several share counts in each",
  "kvengine:session_kept_tokens": "Tokens of frozen sessions, in full blocks",
  "kvengine:session_moves_total":
    "Calls that froze, thawed, exported or imported a session, by outcome",
  "kvengine:sessions":
    "Sessions by state: named by one of the last requests, frozen, or frozen and without any KV left",
  "vllm:kv_offload_load_bytes_total": "Bytes loaded to the device",
  "vllm:kv_offload_load_time_total": "Seconds that threads copied to the device",
  "vllm:kv_offload_store_bytes_total": "Bytes stored from the device",
  "vllm:kv_offload_store_time_total": "Seconds that threads copied from the device",
  "kvengine:connector_disabled": "1 = the connector was disabled: it threw or held up the engine",
  "kvengine:connector_faults_total": "What the connector did wrong, by kind",
  "kvengine:connector_hook_calls_total": "Calls of the connector, by hook",
  "kvengine:connector_hook_seconds_total": "Time of the engine's thread in the connector, by hook",
};

/** All series of one name; a registry renders what `get` answers, as it does for all metrics. */
class ConnectorMetric {
  readonly name: string;
  readonly help: string;
  readonly type: ConnectorSample["type"];
  readonly #values = new Map<string, Exposed>();

  constructor({ name, type }: ConnectorSample) {
    this.name = name;
    this.type = type;
    this.help = HELP[name] ?? "A number that KV connectors report";
  }

  set({ labels, value }: ConnectorSample): void {
    this.#values.set(JSON.stringify(Object.entries(labels)), { labels, value });
  }

  get(): Promise<object> {
    const { name, help, type } = this;
    const values = [...this.#values.values()];
    return Promise.resolve({ name, help, type, aggregator: "sum", values });
  }
}

interface Exposed {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export class ConnectorMetrics {
  readonly #registry: Registry;
  readonly #byName = new Map<string, ConnectorMetric>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Each sample is a series' value of now. */
  apply(samples: readonly ConnectorSample[]): void {
    for (const sample of samples) this.#metricOf(sample).set(sample);
  }

  #metricOf(sample: ConnectorSample): ConnectorMetric {
    const known = this.#byName.get(sample.name);
    if (known !== undefined) return known;
    const metric = new ConnectorMetric(sample);
    this.#byName.set(sample.name, metric);
    // Its types know only classes of its own; of a metric it needs `name` and `get`.
    this.#registry.registerMetric(metric as unknown as Gauge);
    return metric;
  }
}
