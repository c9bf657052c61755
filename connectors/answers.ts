/**
 * What connectors may answer, checked and copied: nothing that a connector made is kept, so what it does to its objects afterwards
 * reaches nobody. Each function throws a `TypeError` that says what is allowed.
 */

import type { KvEvent } from "./connector.ts";
import { showValue } from "./safe-text.ts";

/** Largest `kv_transfer_params` of one connector, as JSON. */
const MAX_PARAMS_CHARACTERS = 65_536;
/** Most events of one call, and most keys of one event. */
const MAX_LIST = 1_000_000;
/** Most numbers of one connector's `stats`. */
const MAX_STATS = 64;
/** Names of metrics: what Prometheus allows, in lower case. */
export const METRIC_NAME: RegExp = /^[a-z][a-z0-9_]{0,63}$/;
/** Names of tiers and media. */
export const TIER_NAME: RegExp = /^[a-z0-9][a-z0-9._-]{0,31}$/;

const EVENT_KINDS: ReadonlySet<unknown> = new Set(["stored", "removed", "cleared"]);

/** Of `findBlocks`. */
export function readLookUp(answer: unknown): "pending" | undefined {
  if (answer === undefined || answer === "pending") return answer;
  throw new TypeError(`answered ${showValue(answer)}; allowed is "pending" or nothing`);
}

/** Of `requestFinished`: a copy by way of JSON, which is how it reaches the client. */
export function readParams(answer: unknown): Readonly<Record<string, unknown>> | undefined {
  if (answer === undefined) return undefined;
  if (!isPlainObject(answer))
    throw new TypeError(`answered ${showValue(answer)}; allowed is an object or nothing`);
  const text: unknown = JSON.stringify(answer);
  if (typeof text !== "string" || text.length > MAX_PARAMS_CHARACTERS) {
    const most = `at most ${MAX_PARAMS_CHARACTERS} characters of JSON`;
    throw new TypeError(`answered parameters that are not ${most}`);
  }
  const copy: unknown = JSON.parse(text);
  // A `toJSON` may have made something else of it.
  if (!isPlainObject(copy))
    throw new TypeError(`answered what is ${showValue(copy)} in JSON; allowed is an object`);
  return copy;
}

/** Of `takeEvents`. */
export function readEvents(answer: unknown): readonly KvEvent[] {
  return copyList("events", answer, readEvent);
}

/** By its length, not by its iterator, which need not end. */
function copyList<T>(what: string, list: unknown, read: (item: unknown) => T): readonly T[] {
  if (!Array.isArray(list))
    throw new TypeError(`answered ${showValue(list)} for ${what}; allowed is an array`);
  const { length } = list;
  if (length > MAX_LIST) throw new TypeError(`answered ${length} ${what}; allowed are ${MAX_LIST}`);
  const copies: T[] = [];
  for (let i = 0; i < length; i++) copies.push(read(list[i]));
  return copies;
}

function readEvent(event: unknown): KvEvent {
  if (!isPlainObject(event)) throw new TypeError(`answered ${showValue(event)} for an event`);
  const { kind, keys, medium } = event;
  if (!EVENT_KINDS.has(kind)) {
    const kinds = [...EVENT_KINDS].join(", ");
    throw new TypeError(`answered an event of kind ${showValue(kind)}; allowed are ${kinds}`);
  }
  if (typeof medium !== "string" || !TIER_NAME.test(medium))
    throw new TypeError(`answered an event with medium ${showValue(medium)}; allowed is a name`);
  return { kind: kind as KvEvent["kind"], keys: copyList("keys", keys, readKey), medium };
}

function readKey(key: unknown): string {
  if (typeof key === "string") return key;
  throw new TypeError(`answered ${showValue(key)} for a key; allowed is text`);
}

/** Of `stats`. */
export function readStats(answer: unknown): readonly (readonly [name: string, value: number])[] {
  if (!isPlainObject(answer))
    throw new TypeError(`answered ${showValue(answer)}; allowed is an object of numbers`);
  const entries = Object.entries(answer);
  if (entries.length > MAX_STATS)
    throw new TypeError(`answered ${entries.length} numbers; allowed are ${MAX_STATS}`);
  return entries.map(([name, value]) => {
    if (!METRIC_NAME.test(name))
      throw new TypeError(`answered a number called ${showValue(name)}; allowed is a-z, 0-9 and _`);
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new TypeError(`answered ${showValue(value)} for ${name}; allowed is a finite number`);
    return [name, value];
  });
}

/** Of `shutdown`: what is to be waited for. */
export function readEnding(answer: unknown): Promise<unknown> | undefined {
  if (answer === undefined || answer instanceof Promise) return answer;
  throw new TypeError(`answered ${showValue(answer)}; allowed is a promise or nothing`);
}

/** Of all other hooks: whatever a method happens to return is passed over. */
export function readNothing(): void {}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
