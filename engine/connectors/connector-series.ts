/** The engine's numbers about one connector: whether it runs, what it did wrong, what its hooks cost, and what it says of itself. */

import type { ConnectorMetrics } from "../../connectors/connector.ts";
import type { ConnectorFaults } from "./connector-faults.ts";
import type { GuardedConnector } from "./guarded-connector.ts";
import { HOOKS, type Hook } from "./hooks.ts";
import { PacedUpdate } from "./paced-update.ts";
import type { SampleStore, Series } from "./sample-store.ts";

interface HookSeries {
  readonly hook: Hook;
  readonly calls: Series;
  readonly seconds: Series;
}

export class ConnectorSeries {
  readonly #guard: GuardedConnector;
  readonly #metrics: ConnectorMetrics;
  readonly #paced: PacedUpdate;
  readonly #disabled: Series;
  readonly #faults: readonly (readonly [Series, () => number])[];
  readonly #hooks: readonly HookSeries[];

  constructor(
    guard: GuardedConnector,
    faults: ConnectorFaults,
    metrics: ConnectorMetrics,
    samples: SampleStore,
    now: () => number,
  ) {
    this.#guard = guard;
    this.#metrics = metrics;
    this.#paced = new PacedUpdate(() => this.#write(), now);
    const connector = guard.name;
    this.#disabled = samples.series("gauge", "kvengine:connector_disabled", { connector });
    this.#faults = Array.from(faults.counts.keys(), (kind) => [
      samples.series("counter", "kvengine:connector_faults_total", { connector, kind }),
      (): number => faults.counts.get(kind) ?? 0,
    ]);
    const methods = HOOKS.filter((hook) => hook !== "import" && hook !== "constructor");
    this.#hooks = methods.map((hook) => {
      const labels = { connector, hook };
      return {
        hook,
        calls: samples.series("counter", "kvengine:connector_hook_calls_total", labels),
        seconds: samples.series("counter", "kvengine:connector_hook_seconds_total", labels),
      };
    });
  }

  update(isLast: boolean): void {
    this.#paced.update(isLast);
  }

  #write(): void {
    for (const [name, value] of this.#guard.stats()) this.#metrics.set(name, value);
    this.#disabled.set(this.#guard.disabled ? 1 : 0);
    for (const [series, count] of this.#faults) series.set(count());
    for (const { hook, calls, seconds } of this.#hooks) {
      const cost = this.#guard.costOf(hook);
      calls.set(cost.calls);
      seconds.set(cost.ms / 1000);
    }
  }
}
