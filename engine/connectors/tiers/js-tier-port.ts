/**
 * A tier that is written in JavaScript, as the tiered connector has it. It never sees a page of the host pool: a page that is stored is
 * copied by a native thread, with a stamp that only this process can make, and the tier is lent the copy; a page that it brings is
 * copied back by a native thread if its stamp fits key and bytes. What was lent is taken away when the call settles or times out. A call
 * that has timed out keeps its place among the `inFlight` ones until it settles, so a tier that hangs uses a bounded amount of memory and
 * is soon asked no more.
 */

import { readNothing, readStats } from "../../../connectors/answers.ts";
import type { BlockKey, PageId } from "../../../connectors/connector.ts";
import { oneLine, showThrown } from "../../../connectors/safe-text.ts";
import { readBoolean, readHas } from "../../../connectors/tier-answers.ts";
import type { KvTier, TierContext } from "../../../connectors/tier.ts";
import type { TierDriving } from "../../../connectors/tier-options.ts";
import type { TierOutcome, TierPort, TierResult } from "../../../connectors/tier-port.ts";
import type { PageTransfers } from "../../cache/page-transfers.ts";
import type { HostPages } from "../host-pages.ts";
import type { LogLine } from "../connector-log.ts";
import { PageCopies } from "./page-copies.ts";
import { type CallOutcome, TierCalls } from "./tier-calls.ts";
import { TierRates } from "./tier-rates.ts";

/** A tier that was loaded and constructed. */
export interface LoadedTier {
  readonly name: string;
  /** Undefined = the engine's own, on a disk. */
  readonly tier: KvTier | undefined;
  readonly driving: TierDriving;
  /** The file of an outside module. */
  readonly path: string | undefined;
}

/** One that is written in JavaScript. */
export type JsTier = LoadedTier & { readonly tier: KvTier };

export interface TierPortTools {
  readonly transfers: PageTransfers;
  readonly pages: HostPages;
  /** Place of the connector whose pages it moves. */
  readonly connector: number;
  /** A call that holds up the engine's thread for longer ends the tier. */
  readonly slowMs: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly log: LogLine;
  /** There are results. */
  readonly wake: () => void;
}

type Kind = TierResult["kind"];

export class JsTierPort implements TierPort {
  readonly name: string;
  readonly driving: TierDriving;
  /** Its stamps are this process's. */
  readonly isDurable = false;
  /** Each page is a call of its own. */
  readonly storesAtOnce = 1;
  readonly rates: TierRates;
  readonly #tier: KvTier;
  readonly #tools: TierPortTools;
  readonly #calls: TierCalls;
  readonly #copies: PageCopies;
  /** Pages under way, by kind, those of calls that timed out and have not settled included. */
  readonly #busy: Record<Kind, number> = { load: 0, store: 0 };
  #numMoving = 0;
  #results: TierResult[] = [];
  #onEnded: PromiseWithResolvers<void> | undefined;
  #isStarted = false;
  #isDisabled = false;

  constructor({ name, tier, driving }: JsTier, tools: TierPortTools) {
    const { transfers, slowMs, now, log } = tools;
    const say = (level: "info" | "warn" | "error") => (message: string) =>
      log(level, `tier ${name}: ${oneLine(message)}`);
    this.name = name;
    this.driving = driving;
    this.rates = new TierRates(transfers.pageBytes, now);
    this.#tier = tier;
    this.#tools = tools;
    this.#copies = new PageCopies(transfers.copyBytes, 2 * driving.inFlight);
    const onSlow = (ms: number): void => {
      if (!this.#isDisabled)
        log(
          "error",
          `tier ${name} is called no more: it held up the engine for ${Math.round(ms)} ms`,
        );
      this.#isDisabled = true;
    };
    this.#calls = new TierCalls({ timeoutMs: driving.timeoutMs, slowMs, now, onSlow });
    const context = {
      name,
      pageBytes: transfers.copyBytes,
      now,
      log: { info: say("info"), warn: say("warn"), error: say("error") },
    };
    void this.#start(context);
  }

  get isUsable(): boolean {
    return this.#isStarted && !this.#isDisabled;
  }

  /** When the next call is late. */
  get nextDeadline(): number {
    return this.#calls.nextDeadline;
  }

  /** Calls that have not answered, and pages that have not arrived. */
  get numUnderWay(): number {
    return this.#calls.numOpen + this.#numMoving;
  }

  expire(now: number): void {
    this.#calls.expire(now);
  }

  numFree(kind: Kind): number {
    return !this.isUsable ? 0 : Math.max(0, this.driving.inFlight - this.#busy[kind]);
  }

  has(
    keys: readonly BlockKey[],
  ): readonly boolean[] | undefined | Promise<readonly boolean[] | undefined> {
    if (!this.isUsable) return undefined;
    const answer = this.#calls.call(() => this.#tier.has(keys), readHas(keys.length));
    return "outcome" in answer ? answer.outcome.then(answerOf) : answerOf(answer);
  }

  move(kind: Kind, keys: readonly BlockKey[], pages: readonly PageId[]): void {
    const { pages: host, connector } = this.#tools;
    host.check(connector, pages);
    this.#busy[kind] += pages.length;
    this.#numMoving += pages.length;
    if (kind === "store") {
      host.beginRead(pages);
      void this.#storeAll(keys, pages);
      return;
    }
    host.beginFlight(Int32Array.from(pages));
    for (const page of pages) host.setKey(page, undefined);
    this.rates.begun(pages.length);
    for (const [i, key] of keys.entries()) void this.#loadOne(key, pages[i] as PageId);
  }

  remove(keys: readonly BlockKey[]): void {
    void this.#inform("remove", () => this.#tier.remove(keys));
  }

  clear(): void {
    void this.#inform("clear", () => this.#tier.clear());
  }

  takeResults(): readonly TierResult[] {
    const results = this.#results;
    if (results.length > 0) this.#results = [];
    return results;
  }

  ended(): Promise<void> {
    if (this.#results.length > 0 || this.#numMoving === 0) return Promise.resolve();
    this.#onEnded ??= Promise.withResolvers<void>();
    return this.#onEnded.promise;
  }

  stats(): Readonly<Record<string, number>> {
    if (!this.isUsable) return {};
    const answer = this.#calls.call(() => this.#tier.stats(), readStats);
    return "kind" in answer && answer.kind === "answered" ? Object.fromEntries(answer.answer) : {};
  }

  async shutdown(deadline: number): Promise<void> {
    await this.#inform("shutdown", () => this.#tier.shutdown(deadline));
  }

  /** However long that takes: it is not asked before. */
  async #start(context: TierContext): Promise<void> {
    try {
      const starting: unknown = this.#tier.start(context);
      if (starting instanceof Promise) await starting;
      this.#isStarted = true;
      if (starting instanceof Promise) this.#tools.wake();
    } catch (thrown) {
      this.#tools.log("error", `tier ${this.name} does not start: ${showThrown(thrown)}`);
    }
  }

  async #storeAll(keys: readonly BlockKey[], pages: readonly PageId[]): Promise<void> {
    const { transfers, pages: host, now } = this.#tools;
    const begunAt = now();
    const copies = keys.map(() => this.#copies.take());
    const isWhole = keys.every((key, i) => host.keyOf(pages[i] as PageId) === key);
    const copy = (): Promise<readonly string[]> =>
      transfers.copyOut(Int32Array.from(pages), keys, host.epoch, copies);
    const codes = isWhole ? await this.#copied(copy) : undefined;
    host.endRead(pages);
    for (const [i, key] of keys.entries()) {
      const copy = copies[i] as Uint8Array;
      const page = pages[i] as PageId;
      if (codes?.[i] === "") void this.#storeOne(key, page, copy, begunAt);
      else {
        this.#copies.giveBack(copy);
        this.#end({ kind: "store", key, page, outcome: "host", ms: now() - begunAt });
        this.#busy.store--;
      }
    }
  }

  async #storeOne(key: BlockKey, page: PageId, copy: Uint8Array, begunAt: number): Promise<void> {
    const { outcome, own } = await this.#lend("store", copy, () => this.#tier.store(key, copy));
    if (own !== undefined) this.#copies.giveBack(own);
    this.#end({ kind: "store", key, page, ...outcome, ms: this.#tools.now() - begunAt });
  }

  async #loadOne(key: BlockKey, page: PageId): Promise<void> {
    const { transfers, pages: host, now } = this.#tools;
    const begunAt = now();
    const { epoch } = host;
    const copy = this.#copies.take();
    // What is there from before must not pass for what the tier brings.
    copy.fill(0, transfers.pageBytes);
    // Not inside a hook of the connector: how long the tier takes is its own affair.
    await Promise.resolve();
    const { outcome, own } = await this.#lend("load", copy, () => this.#tier.load(key, copy));
    let ended = outcome;
    if (own !== undefined) {
      if (outcome.outcome === "ok") {
        const copyIn = (): Promise<readonly string[]> =>
          transfers.copyIn(Int32Array.of(page), [key], epoch, [own]);
        const codes = await this.#copied(copyIn);
        ended = { outcome: outcomeOf(codes?.[0]) };
      }
      this.#copies.giveBack(own);
    } else if (outcome.outcome === "ok")
      ended = { outcome: "wrong", reason: "gave its memory away" };
    if (epoch !== host.epoch && ended.outcome === "ok") ended = { outcome: "older" };
    if (ended.outcome === "ok") host.setKey(page, key);
    host.endFlight(Int32Array.of(page));
    this.rates.ended(1, ended.outcome === "ok" ? 1 : 0);
    this.#end({ kind: "load", key, page, ...ended, ms: now() - begunAt });
  }

  /** Calls the tier with a copy in its hands. `own`: the copy once it was taken away; undefined = it is lost. */
  async #lend(
    kind: Kind,
    copy: Uint8Array,
    invoke: () => unknown,
  ): Promise<{ outcome: { outcome: TierOutcome; reason?: string }; own: Uint8Array | undefined }> {
    if (this.#isDisabled) {
      this.#busy[kind]--;
      return { outcome: { outcome: "failed", reason: "it is called no more" }, own: copy };
    }
    const called = this.#calls.call(invoke, readBoolean);
    const result = "outcome" in called ? await called.outcome : called;
    const own = this.#copies.revoke(copy);
    const free = (): void => void this.#busy[kind]--;
    if ("outcome" in called && result.kind === "late") void called.settled.then(free);
    else free();
    return { outcome: pageOutcome(result), own: result.kind === "late" ? undefined : own };
  }

  #end(result: TierResult): void {
    this.#numMoving--;
    this.#results.push(result);
    this.#onEnded?.resolve();
    this.#onEnded = undefined;
    this.#tools.wake();
  }

  /** A code for each page; undefined = none was copied. */
  async #copied(copy: () => Promise<readonly string[]>): Promise<readonly string[] | undefined> {
    try {
      return await copy();
    } catch (thrown) {
      this.#tools.log("error", `tier ${this.name}: pages cannot be copied: ${showThrown(thrown)}`);
      return undefined;
    }
  }

  /** A call whose failure changes nothing but the log. */
  async #inform(what: string, invoke: () => unknown): Promise<void> {
    if (this.#isDisabled) return;
    const called = this.#calls.call(invoke, readNothing);
    const result = "outcome" in called ? await called.outcome : called;
    if (result.kind !== "answered")
      this.#tools.log("warn", `tier ${this.name}: ${what} ${showFailure(result)}`);
  }
}

function pageOutcome(result: CallOutcome<boolean>): { outcome: TierOutcome; reason?: string } {
  if (result.kind === "answered") return { outcome: result.answer ? "ok" : "none" };
  return { outcome: result.kind, reason: showFailure(result) };
}

function outcomeOf(code: string | undefined): TierOutcome {
  if (code === "") return "ok";
  if (code === "older") return "older";
  return code === "checksum" ? "wrong" : "host";
}

function answerOf(result: CallOutcome<readonly boolean[]>): readonly boolean[] | undefined {
  return result.kind === "answered" ? result.answer : undefined;
}

function showFailure(result: Exclude<CallOutcome<unknown>, { kind: "answered" }>): string {
  return result.kind === "late" ? "did not answer in time" : result.reason;
}
