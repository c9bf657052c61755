/** All tiers of an engine: their deadlines, and whether what they could bring is worth its time. */

import type { SchedulerSide } from "../../scheduler/scheduler-connectors.ts";
import type { BlockOffers } from "../block-offers.ts";
import type { JsTierPort } from "./js-tier-port.ts";

/** What the engine sees of a port. */
type Port = Pick<JsTierPort, "name" | "rates" | "nextDeadline" | "numUnderWay" | "expire">;

export interface ComputeCost {
  readonly blockSize: number;
  readonly pageBytes: number;
  readonly msPerPromptToken: number;
  /** Prompt tokens of others that are computed before. */
  readonly queuedPromptTokens: number;
}

/** Until the first step has ended: that of a slow processor. */
const FIRST_MS_PER_TOKEN = 1;

export function computeCostOf(side: SchedulerSide, pageBytes: number): ComputeCost {
  return {
    blockSize: side.kv.blockSize,
    pageBytes,
    msPerPromptToken: side.microsPerPromptToken() / 1000 || FIRST_MS_PER_TOKEN,
    queuedPromptTokens: side.queuedPromptTokens(),
  };
}

export class TierSide {
  readonly #ports: Port[] = [];
  #alarm = Infinity;
  /** Of what was marked last and is worth it: until the first page is in the host's memory, and from then until the last one is. */
  #latencyMs = 0;
  #ms = 0;
  /** Blocks that were left to be computed, since tiers would have taken longer. */
  numLeft = 0;

  add(ports: readonly Port[]): void {
    this.#ports.push(...ports);
  }

  /** A connector wants to be looked at then. */
  setAlarm(at: number): void {
    this.#alarm = Math.min(this.#alarm, at);
  }

  get nextDeadline(): number {
    return this.#ports.reduce((next, port) => Math.min(next, port.nextDeadline), this.#alarm);
  }

  /** Calls and pages that have not ended. */
  get numUnderWay(): number {
    return this.#ports.reduce((sum, { numUnderWay }) => sum + numUnderWay, 0);
  }

  /** What is due at `now` has come: calls are late, the alarm rings by being looked at. */
  settle(now: number): void {
    if (this.#alarm <= now) this.#alarm = Infinity;
    for (const port of this.#ports) port.expire(now);
  }

  /** Until the first page of the last look-up is in the host's memory. */
  get latencyMs(): number {
    return this.#latencyMs;
  }

  /** How quickly what was marked last comes to the device, where copies from the host come at `rate`: both go on at a time. */
  rateOf(bytes: number, rate: number): number {
    return this.#ms === 0 ? rate : Math.min(rate, (1000 * bytes) / this.#ms);
  }

  /** Takes back the marks of tiers from which blocks would come later than they are computed. */
  weigh(offers: BlockOffers, costNow: () => ComputeCost): void {
    this.#latencyMs = 0;
    this.#ms = 0;
    if (this.#ports.length === 0 || offers.numMarked === 0) return;
    const counts = offers.countByTier();
    const cost = costNow();
    for (const { name, rates } of this.#ports) {
      const count = counts.get(name) ?? 0;
      if (count === 0) continue;
      const bytes = rates.queuedBytes + count * cost.pageBytes;
      const loadMs = (1000 * bytes) / rates.bytesPerSecond;
      const tokens = (count / offers.numGroups) * cost.blockSize + cost.queuedPromptTokens;
      if (rates.latencyMs + loadMs > tokens * cost.msPerPromptToken) {
        offers.unmarkTier(name);
        this.numLeft += count;
        continue;
      }
      // Tiers bring theirs side by side.
      this.#latencyMs = Math.max(this.#latencyMs, rates.latencyMs);
      this.#ms = Math.max(this.#ms, loadMs);
    }
  }
}
