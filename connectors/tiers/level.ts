/** One tier: whether it is asked, what it has as far as is known, and what is to be stored in it. */

import type {
  BlockKey,
  ConnectorMetrics,
  KvEvent,
  PageId,
  SchedulerContext,
} from "../connector.ts";
import type { HostLevel } from "../host-level.ts";
import type { TierOutcome, TierPort, TierResult } from "../tier-port.ts";
import { Circuit } from "./circuit.ts";
import { Presence } from "./presence.ts";

/** Host pages that are written before they are given to others, where the tier is written back. */
const BACK_WINDOW = 64;
/** Before the second try of a store, in milliseconds; doubled for each one after. */
const RETRY_MS = 50;
/** Milliseconds for which pages wait for others to be stored with. */
const GATHER_MS = 100;

/** A store that is to be tried, or tried again. */
interface Waiting {
  readonly attempts: number;
  /** Not before. */
  readonly at: number;
}

const NOW: Waiting = { attempts: 0, at: -Infinity };

export class Level {
  readonly port: TierPort;
  readonly #context: SchedulerContext;
  readonly #host: HostLevel;
  readonly #metrics: ConnectorMetrics;
  readonly #loads: Circuit;
  readonly #stores: Circuit;
  readonly #presence = new Presence();
  /** Asked, and not answered yet. */
  readonly #asked = new Set<BlockKey>();
  /** In host pages and to be stored, in this order. */
  readonly #waiting = new Map<BlockKey, Waiting>();
  /** Until then pages wait for others to be stored with. */
  #gathersUntil = 0;
  /** Nothing comes after what waits. */
  #isEnding = false;
  /** Stores under way, with their attempts so far. */
  readonly #storing = new Map<BlockKey, number>();
  /** Its answers come by promises: it is not asked before each store. */
  #answersLater = false;
  /** Host pages changed since those near their end were looked at. */
  #mayLookBack = false;
  #events: KvEvent[] = [];

  constructor(port: TierPort, context: SchedulerContext, host: HostLevel) {
    const { name, driving } = port;
    const { log, metrics } = context;
    const now = (): number => context.now();
    const circuitOf = (what: string): Circuit =>
      new Circuit({
        what,
        failures: driving.failures,
        now,
        warn: (line) => log.warn(line),
        info: (line) => log.info(line),
      });
    this.port = port;
    this.#context = context;
    this.#host = host;
    this.#metrics = metrics;
    this.#loads = circuitOf(`loads from tier ${name}`);
    this.#stores = circuitOf(`stores to tier ${name}`);
    // A series that appears with its first event hides that event from rate().
    for (const kind of ["load", "store"] as const) {
      for (const outcome of ["ok", "none", "failed", "late", "wrong"] as const)
        this.#count(kind, outcome, 0);
      this.#metrics.count("tier_bytes", 0, { tier: name, kind });
      this.#metrics.count("tier_seconds", 0, { tier: name, kind });
    }
  }

  get name(): string {
    return this.port.name;
  }

  get isStoring(): boolean {
    return this.#storing.size > 0;
  }

  /** Pages that may be begun to load now. */
  get numLoadsFree(): number {
    return !this.port.isUsable ? 0 : this.#loads.allows(this.port.numFree("load"));
  }

  /** Whether what it has is of use now, or soon. */
  get isOpenForLoads(): boolean {
    return this.port.isUsable && !this.#loads.isShut;
  }

  /** Of each key whether the tier has it; undefined = it was asked, and has not answered. */
  has(keys: readonly BlockKey[]): readonly (boolean | undefined)[] {
    if (!this.isOpenForLoads) return keys.map(() => false);
    const now = this.#context.now();
    const known = keys.map((key) => this.#presence.at(key, now));
    const unknown = keys.filter((key, i) => known[i] === undefined && !this.#asked.has(key));
    if (unknown.length === 0) return known;
    const answer = this.port.has(unknown);
    this.#answersLater = answer instanceof Promise;
    if (answer instanceof Promise) {
      this.#ask(unknown, answer);
      return known;
    }
    // Answers that come at once are not kept: it is asked again.
    const answers = new Map(unknown.map((key, i) => [key, answer?.[i] ?? false]));
    if (answer === undefined) this.#loads.failed("has failed");
    return keys.map((key, i) => known[i] ?? answers.get(key));
  }

  /** These are in host pages since now. */
  stored(keys: readonly BlockKey[]): void {
    this.#mayLookBack = true;
    if (this.port.driving.writes === "through") this.#wait(keys);
  }

  /** These are in host pages, and it is to have them whenever it writes others. */
  keep(keys: readonly BlockKey[]): void {
    this.#wait(keys);
    this.#gathersUntil = 0;
  }

  /** These have left the host's pages. */
  forgotten(keys: readonly BlockKey[]): void {
    let numLost = 0;
    for (const key of keys) if (this.#waiting.delete(key)) numLost++;
    if (numLost > 0) this.#count("store", "lost", numLost);
  }

  /** Begins stores: of all that is to be stored, or of what is near its end in host pages. */
  storeSome(): void {
    if (!this.port.isUsable) return;
    if (this.port.driving.writes === "back" && this.#waiting.size === 0) this.#lookBack();
    while (this.#waiting.size > 0 && this.#hasGathered()) {
      const keys = this.#due();
      // Where the tier has all of them nothing is under way whose end would bring the next ones.
      if (keys.length === 0 || this.#store(keys)) return;
    }
  }

  /** All that is in host pages and that it does not have is to be stored: nothing comes after. */
  storeRest(): void {
    this.#isEnding = true;
    this.#wait(this.#host.cache.coldest(Infinity));
  }

  /** Loads are begun: no more than `numLoadsFree`. */
  load(keys: readonly BlockKey[], pages: readonly PageId[]): void {
    this.#loads.begun();
    this.port.move("load", keys, pages);
  }

  /** These have ended. All at once, since each number, event and call costs: there are hundreds of pages a second. */
  ended(results: readonly TierResult[]): void {
    this.#countAll(results);
    const now = this.#context.now();
    for (const result of results) {
      const { kind, key, outcome } = result;
      this.#judge(result);
      const isThere = outcome === "ok" ? true : isUseless(outcome, kind) ? false : undefined;
      if (isThere !== undefined && this.#answersLater) this.#presence.set(key, isThere, now);
    }
    const keysOf = (some: readonly TierResult[]): BlockKey[] => some.map(({ key }) => key);
    const wrong = results.filter(({ outcome }) => outcome === "wrong" || outcome === "older");
    if (wrong.length > 0) this.port.remove(keysOf(wrong));
    const stored = results.filter((result) => result.kind === "store" && this.#storeEnded(result));
    if (stored.length > 0)
      this.#events.push({ kind: "stored", keys: keysOf(stored), medium: this.name });
  }

  /** Whether a page that was loaded so often, and did not arrive, is to be tried again. */
  mayRetry({ outcome }: TierResult, attempts: number): boolean {
    if (outcome !== "failed" && outcome !== "late") return false;
    return this.isOpenForLoads && attempts <= this.port.driving.retries;
  }

  clear(): void {
    this.#presence.clear();
    this.#asked.clear();
    this.#waiting.clear();
    this.#storing.clear();
    this.port.clear();
    this.#events.push({ kind: "cleared", keys: [], medium: this.name });
  }

  takeEvents(): readonly KvEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }

  /** Gauges of now, by way of the metrics: each has the tier's name as a label. */
  report(): void {
    const labels = { tier: this.name };
    this.#metrics.set("tier_loads_off", this.isOpenForLoads ? 0 : 1, labels);
    this.#metrics.set("tier_stores_off", this.#stores.isOpen ? 1 : 0, labels);
    this.#metrics.set("tier_to_store", this.#waiting.size + this.#storing.size, labels);
    for (const [name, value] of Object.entries(this.port.stats()))
      this.#metrics.set(`tier_${name}`, value, labels);
  }

  #ask(keys: readonly BlockKey[], answer: Promise<readonly boolean[] | undefined>): void {
    for (const key of keys) this.#asked.add(key);
    void answer.then((answers) => {
      const now = this.#context.now();
      for (const [i, key] of keys.entries()) {
        // A reset has come between: what was asked before it is no answer now.
        if (!this.#asked.delete(key)) continue;
        this.#presence.set(key, answers?.[i] ?? false, now);
      }
      if (answers === undefined) this.#loads.failed("has failed");
      this.#context.wake();
    });
  }

  #wait(keys: readonly BlockKey[]): void {
    const now = this.#context.now();
    if (this.#waiting.size === 0) this.#gathersUntil = now + GATHER_MS;
    for (const key of keys) {
      if (this.#waiting.has(key) || this.#storing.has(key)) continue;
      if (this.#presence.at(key, now) !== true) this.#waiting.set(key, NOW);
    }
  }

  #lookBack(): void {
    if (!this.#mayLookBack || this.#context.pages.numFree >= BACK_WINDOW) return;
    this.#mayLookBack = false;
    this.#wait(this.#host.cache.coldest(BACK_WINDOW));
  }

  /** Whether as much can be stored now as is to be stored at once, or more will not come soon. If not, work goes on when it does. */
  #hasGathered(): boolean {
    const { storesAtOnce } = this.port;
    const numFree = this.port.numFree("store");
    // One that is tried again after failures is tried by a single page.
    if (
      this.#isEnding ||
      this.#stores.isOpen ||
      Math.min(this.#waiting.size, numFree) >= storesAtOnce
    )
      return true;
    // Those under way bring the next look.
    if (this.#waiting.size > numFree) return false;
    if (this.#gathersUntil <= this.#context.now()) return true;
    this.#context.wake(this.#gathersUntil);
    return false;
  }

  /** What may be stored now; where that is nothing, work goes on when something may. */
  #due(): readonly BlockKey[] {
    const now = this.#context.now();
    const most = this.#stores.allows(this.port.numFree("store"));
    const keys: BlockKey[] = [];
    let next = this.#stores.opensAt ?? Infinity;
    for (const [key, { at }] of this.#waiting) {
      if (keys.length >= most) break;
      if (at > now) next = Math.min(next, at);
      else if (this.#host.cache.ready(key) === undefined) this.#waiting.delete(key);
      else keys.push(key);
    }
    if (keys.length === 0 && next < Infinity) this.#context.wake(next);
    return keys;
  }

  /** Answers whether a store was begun: what the tier has already is not stored again. */
  #store(keys: readonly BlockKey[]): boolean {
    const has = this.#answersLater ? undefined : this.port.has(keys);
    const there = has instanceof Promise ? undefined : has;
    const missing: BlockKey[] = [];
    const pages: PageId[] = [];
    for (const [i, key] of keys.entries()) {
      const { attempts } = this.#waiting.get(key) ?? NOW;
      const page = this.#host.cache.ready(key);
      this.#waiting.delete(key);
      if (page === undefined || there?.[i] === true) continue;
      this.#storing.set(key, attempts);
      this.#host.cache.pin(key);
      missing.push(key);
      pages.push(page);
    }
    if (missing.length === 0) return false;
    this.#stores.begun();
    this.port.move("store", missing, pages);
    return true;
  }

  /** Answers whether the tier has it since now. */
  #storeEnded({ key, outcome }: TierResult): boolean {
    const attempts = this.#storing.get(key);
    // From before a reset.
    if (attempts === undefined) return false;
    this.#storing.delete(key);
    this.#host.cache.unpin(key);
    if (outcome === "failed" && attempts < this.port.driving.retries) {
      const at = this.#context.now() + RETRY_MS * 2 ** attempts;
      this.#waiting.set(key, { attempts: attempts + 1, at });
    }
    return outcome === "ok";
  }

  #judge({ kind, outcome, reason }: TierResult): void {
    const circuit = kind === "load" ? this.#loads : this.#stores;
    if (outcome === "ok") circuit.worked();
    else if (outcome === "host" || outcome === "older" || (kind === "store" && outcome === "none"))
      circuit.passed();
    // A tier that has what it cannot bring costs every request that believes it a wait.
    else circuit.failed(reason ?? outcome);
  }

  #count(kind: "load" | "store", outcome: TierOutcome | "lost", pages: number): void {
    this.#metrics.count("tier_pages", pages, { tier: this.name, kind, outcome });
  }

  #countAll(results: readonly TierResult[]): void {
    const { pageBytes } = this.#context.pages;
    for (const [kind, some] of Map.groupBy(results, (result) => result.kind)) {
      const labels = { tier: this.name, kind };
      const ms = some.reduce((sum, result) => sum + result.ms, 0);
      this.#metrics.count("tier_seconds", ms / 1000, labels);
      for (const [outcome, { length }] of Map.groupBy(some, (result) => result.outcome)) {
        this.#count(kind, outcome, length);
        if (outcome === "ok") this.#metrics.count("tier_bytes", length * pageBytes, labels);
      }
    }
  }
}

/** Whether the tier does not have the page, or has one that does not count. */
function isUseless(outcome: TierOutcome, kind: "load" | "store"): boolean {
  return outcome === "wrong" || outcome === "older" || (kind === "load" && outcome === "none");
}
