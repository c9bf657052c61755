/** The metrics that a connector reports. What it writes becomes names and labels of `/metrics`, so all of it has bounds. */

import { METRIC_NAME } from "../../connectors/answers.ts";
import type { ConnectorMetrics } from "../../connectors/connector.ts";
import { oneLine, showValue } from "../../connectors/safe-text.ts";
import type { SampleStore, Series } from "./sample-store.ts";

/** Series of one connector: each combination of a name and labels is one. */
const MAX_SERIES = 200;
const MAX_LABELS = 4;
const LABEL_NAME = /^[a-z][a-z0-9_]{0,31}$/;
/** Labels that the engine or Prometheus gives. */
const TAKEN_LABELS = new Set(["connector", "model_name", "engine", "le", "quantile"]);
const MAX_LABEL_VALUE = 64;

/** Why a sample is dropped: never a reason to throw at who reports it. */
class Dropped extends Error {}

/** Samples that are not allowed are dropped; `warn` hears of each reason once. */
export class OwnMetrics implements ConnectorMetrics {
  readonly #connector: string;
  readonly #samples: SampleStore;
  readonly #warn: (message: string) => void;
  readonly #warned = new Set<string>();
  #numSeries = 0;

  constructor(connector: string, samples: SampleStore, warn: (message: string) => void) {
    this.#connector = connector;
    this.#samples = samples;
    this.#warn = warn;
  }

  count(name: string, value: number = 1, labels: Readonly<Record<string, string>> = {}): void {
    this.#write(name, () => {
      if (typeof value !== "number" || !(value >= 0) || value === Number.POSITIVE_INFINITY)
        throw new Dropped(`cannot count ${showValue(value)}; allowed is 0 and more`);
      this.#seriesOf("counter", `${checkName(name)}_total`, labels).add(value);
    });
  }

  set(name: string, value: number, labels: Readonly<Record<string, string>> = {}): void {
    this.#write(name, () => {
      if (typeof value !== "number" || !Number.isFinite(value))
        throw new Dropped(`cannot be ${showValue(value)}; allowed is a finite number`);
      if (checkName(name).endsWith("_total"))
        throw new Dropped("is no gauge's name: _total is the end of counters' names");
      this.#seriesOf("gauge", name, labels).set(value);
    });
  }

  #write(name: unknown, body: () => void): void {
    try {
      body();
    } catch (thrown) {
      if (!(thrown instanceof Dropped)) throw thrown;
      const message = `the metric ${showValue(name)} ${thrown.message}`;
      // A name may be different each time; the kinds of mistakes are few.
      if (this.#warned.has(thrown.message) || this.#warned.size > MAX_SERIES) return;
      this.#warned.add(thrown.message);
      this.#warn(message);
    }
  }

  #seriesOf(type: "counter" | "gauge", name: string, labels: unknown): Series {
    const whole = `kvengine_connector_${name}`;
    const checked = { connector: this.#connector, ...checkLabels(labels) };
    const known = this.#samples.find(whole, checked);
    if (known !== undefined) return known;
    if (this.#numSeries >= MAX_SERIES)
      throw new Dropped(`would be one series too many; allowed are ${MAX_SERIES} of a connector`);
    this.#numSeries++;
    return this.#samples.series(type, whole, checked);
  }
}

function checkName(name: unknown): string {
  if (typeof name === "string" && METRIC_NAME.test(name)) return name;
  throw new Dropped("has no metric's name: a-z first, then a-z, 0-9 and _, 64 at most");
}

function checkLabels(labels: unknown): Record<string, string> {
  if (typeof labels !== "object" || labels === null || Array.isArray(labels))
    throw new Dropped(`has ${showValue(labels)} for labels; allowed is an object of texts`);
  const entries = Object.entries(labels as Readonly<Record<string, unknown>>);
  if (entries.length > MAX_LABELS)
    throw new Dropped(`has ${entries.length} labels; allowed are ${MAX_LABELS}`);
  return Object.fromEntries(
    entries.map(([label, value]) => {
      if (!LABEL_NAME.test(label) || TAKEN_LABELS.has(label))
        throw new Dropped(`has the label ${showValue(label)}, which is taken or no label's name`);
      if (typeof value !== "string")
        throw new Dropped(`has ${showValue(value)} in the label ${label}; allowed is text`);
      return [label, oneLine(value, MAX_LABEL_VALUE)];
    }),
  );
}
