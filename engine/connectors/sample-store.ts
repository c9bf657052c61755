/** The series about connectors on the engine's side: what has changed goes along with the next message. */

import type { ConnectorSample } from "../request.ts";

type SampleType = ConnectorSample["type"];
type Labels = ConnectorSample["labels"];

/** One series, 0 at first. */
export class Series {
  readonly #sample: Omit<ConnectorSample, "value">;
  readonly #onChange: (series: Series) => void;
  #value = 0;

  constructor(sample: Omit<ConnectorSample, "value">, onChange: (series: Series) => void) {
    this.#sample = sample;
    this.#onChange = onChange;
  }

  get sample(): ConnectorSample {
    return { ...this.#sample, value: this.#value };
  }

  set(value: number): void {
    if (value === this.#value) return;
    this.#value = value;
    this.#onChange(this);
  }

  add(value: number): void {
    this.set(this.#value + value);
  }
}

export class SampleStore {
  readonly #series = new Map<string, Series>();
  readonly #changed = new Set<Series>();

  find(name: string, labels: Labels): Series | undefined {
    return this.#series.get(keyOf(name, labels));
  }

  /** The series of this name and these labels, a new one where there is none. */
  series(type: SampleType, name: string, labels: Labels): Series {
    const key = keyOf(name, labels);
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    const series = new Series({ name, type, labels }, (changed) => this.#changed.add(changed));
    this.#series.set(key, series);
    // A series that appears with its first event hides that event from rate().
    this.#changed.add(series);
    return series;
  }

  /** Series that are new or have another value than when they were taken last. */
  take(): readonly ConnectorSample[] {
    if (this.#changed.size === 0) return [];
    const samples = Array.from(this.#changed, ({ sample }) => sample);
    this.#changed.clear();
    return samples;
  }
}

function keyOf(name: string, labels: Labels): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([name, pairs]);
}
