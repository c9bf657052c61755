/** A histogram for what is observed at every token: prom-client's own takes longer over that than writing the token does. */

import type { Histogram, Registry } from "prom-client";

export interface TokenHistogramOptions {
  readonly name: string;
  readonly help: string;
  /** Upper bounds, ascending. */
  readonly buckets: readonly number[];
  readonly registers: readonly Registry[];
}

/** Counts in an array of its own; a registry renders what `get` answers, as it does for all metrics. */
export class TokenHistogram {
  readonly name: string;
  readonly help: string;
  readonly #bounds: readonly number[];
  /** Observations in each bucket alone; the last holds those beyond every bound. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor({ name, help, buckets, registers }: TokenHistogramOptions) {
    this.name = name;
    this.help = help;
    this.#bounds = buckets;
    this.#counts = new Float64Array(buckets.length + 1);
    // Its types know only classes of its own; of a metric it needs `name` and `get`.
    for (const registry of registers) registry.registerMetric(this as unknown as Histogram);
  }

  /** Observes `value` this many times. */
  add(value: number, times: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] as number)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] as number) + times;
    this.#sum += value * times;
  }

  get(): Promise<Exposed> {
    const { name, help } = this;
    let count = 0;
    const values: ExposedValue[] = [...this.#bounds, "+Inf"].map((le, bucket) => {
      count += this.#counts[bucket] as number;
      return { metricName: `${name}_bucket`, labels: { le }, value: count };
    });
    values.push({ metricName: `${name}_sum`, labels: {}, value: this.#sum });
    values.push({ metricName: `${name}_count`, labels: {}, value: count });
    return Promise.resolve({ name, help, type: "histogram", aggregator: "sum", values });
  }
}

/** What prom-client renders. */
interface Exposed {
  readonly name: string;
  readonly help: string;
  readonly type: "histogram";
  readonly aggregator: "sum";
  readonly values: readonly ExposedValue[];
}

interface ExposedValue {
  readonly metricName: string;
  readonly labels: { readonly le?: number | string };
  readonly value: number;
}
