/** A server's counters, before and after a run: what it says that it did. */

import { control, type Endpoint } from "./control.ts";

export type Counters = Readonly<Record<string, number>>;

/** Labels that are the same in every line of a server. */
const CONSTANT_LABELS = /^(model_name|engine|model|instance|pid)=/;

/** Of `/metrics`; empty where the server has none, or none that can be read. */
export async function readCounters(endpoint: Endpoint): Promise<Counters> {
  const answer = await control(endpoint, "GET", "/metrics").catch(() => undefined);
  return answer?.status === 200 ? parseCounters(answer.text) : {};
}

/** Counters of Prometheus' text format, by name and those labels that tell lines apart; the same name and labels add up. */
export function parseCounters(text: string): Counters {
  const counters = new Set<string>();
  const values: Record<string, number> = {};
  for (const line of text.split("\n")) {
    const type = /^# TYPE (\S+) counter/.exec(line)?.[1];
    if (type !== undefined) counters.add(type);
    const match = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    const [, name = "", labels = "", value = ""] = match ?? [];
    // OpenMetrics declares a counter by the name without its ending.
    if (!counters.has(name) && !counters.has(name.replace(/_total$/, ""))) continue;
    if (name.endsWith("_created") || !Number.isFinite(Number(value))) continue;
    const key = name + ownLabels(labels);
    values[key] = (values[key] ?? 0) + Number(value);
  }
  return values;
}

/** By how much each grew. A counter that fell was reset in between and says nothing. */
export function counterDifferences(before: Counters, after: Counters): Counters {
  const grown = Object.entries(after)
    .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
    .filter(([, growth]) => growth >= 0);
  return Object.fromEntries(grown);
}

function ownLabels(labels: string): string {
  const own = (labels.match(/\w+="(?:[^"\\]|\\.)*"/g) ?? []).filter(
    (label) => !CONSTANT_LABELS.test(label),
  );
  return own.length === 0 ? "" : `{${own.join(",")}}`;
}
