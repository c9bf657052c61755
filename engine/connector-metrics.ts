/** The series about KV connectors under `/metrics`: names and labels come from the engine while it runs. */

import type { Gauge, Registry } from "prom-client";
import type { ConnectorSample } from "./request.ts";

const HELP: Readonly<Record<string, string>> = {
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
