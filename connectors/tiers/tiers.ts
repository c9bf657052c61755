/**
 * The tiers below the host's pages, in the order in which they were named. A block that leaves the device is copied to a host page
 * (`cpu-offload.ts`) and from there to tiers; one that is wanted and neither on the device nor in a host page is marked for the first
 * tier that has it, brought to a host page, and from there to the device. Whether it is brought at all, or computed, is the engine's
 * decision: it knows what each tier's loads have cost lately.
 */

import type {
  BlockHashes,
  BlockId,
  BlockKey,
  KvEvent,
  PlannedBlock,
  SchedulerContext,
  WantedBlocks,
} from "../connector.ts";
import type { Above, LowerTiers } from "../lower-tiers.ts";
import { weightOf } from "../page-cache.ts";
import type { TierPort } from "../tier-port.ts";
import { Fetches } from "./fetches.ts";
import { Level } from "./level.ts";

export class Tiers implements LowerTiers {
  #levels: readonly Level[] = [];
  #above!: Above;
  #context!: SchedulerContext;
  #fetches!: Fetches;

  start(context: SchedulerContext, above: Above): void {
    this.#context = context;
    this.#above = above;
    this.#levels = context.tiers.map((port: TierPort) => new Level(port, context, above.host));
    this.#fetches = new Fetches(context, above);
  }

  find(hashes: BlockHashes, wanted: WantedBlocks): "pending" | undefined {
    let missing = this.#missing(hashes, wanted);
    let isPending = false;
    for (const level of this.#levels) {
      if (missing.length === 0) break;
      const has = level.has(missing.map(({ key }) => key));
      for (const [i, { block, group }] of missing.entries())
        if (has[i] === true) wanted.mark(block, group, level.name);
      isPending ||= has.includes(undefined);
      missing = missing.filter((_, i) => has[i] !== true);
    }
    return isPending ? "pending" : undefined;
  }

  bring(blocks: readonly PlannedBlock[], deadline: number): void {
    const lost: BlockId[] = [];
    for (const block of blocks) {
      const level = this.#levels.find(({ name }) => name === block.tier);
      if (level === undefined) lost.push(block.id);
      else this.#fetches.begin(block, level, deadline);
    }
    if (lost.length > 0) this.#context.transfers.giveUp(lost);
    this.#fetches.work();
  }

  fetch(keys: readonly BlockKey[]): readonly BlockKey[] {
    const asked = new Set<BlockKey>();
    let missing = keys.filter((key) => !this.#fetches.wantInHost(key));
    for (const level of this.#levels) {
      if (missing.length === 0) break;
      const has = level.has(missing);
      for (const [i, key] of missing.entries()) {
        if (has[i] === true) this.#fetches.beginForHost(key, level);
        else if (has[i] === undefined) asked.add(key);
      }
      missing = missing.filter((_, i) => has[i] !== true);
    }
    this.#fetches.work();
    return keys.filter((key) => asked.has(key) || this.#fetches.levelOf(key) !== undefined);
  }

  keep(keys: readonly BlockKey[]): void {
    for (const level of this.#levels) if (level.port.isDurable) level.keep(keys);
    this.work();
  }

  used(keys: readonly BlockKey[], priority: number): void {
    const weight = weightOf(priority);
    if (weight === 0) return;
    for (const { port } of this.#levels) port.weigh?.(keys, weight);
  }

  stored(keys: readonly BlockKey[]): void {
    for (const level of this.#levels) level.stored(keys);
  }

  forgotten(keys: readonly BlockKey[]): void {
    for (const level of this.#levels) level.forgotten(keys);
  }

  landed(key: BlockKey): void {
    this.#fetches.landed(key);
  }

  work(): void {
    for (const level of this.#levels) this.#takeResults(level);
    this.#fetches.work();
    for (const level of this.#levels) level.storeSome();
  }

  reset(): void {
    this.#fetches.clear();
    for (const level of this.#levels) level.clear();
  }

  takeEvents(): readonly KvEvent[] {
    return this.#levels.flatMap((level) => level.takeEvents());
  }

  report(): void {
    for (const level of this.#levels) level.report();
  }

  async shutdown(deadline: number): Promise<void> {
    const durable = this.#levels.filter(({ port }) => port.isDurable);
    for (const level of durable) level.storeRest();
    const expired = Promise.withResolvers<"expired">();
    const ms = Math.max(0, deadline - this.#context.now());
    const timer = setTimeout(() => expired.resolve("expired"), ms);
    while (this.#context.now() < deadline) {
      for (const level of this.#levels) this.#takeResults(level);
      for (const level of durable) level.storeSome();
      const storing = durable.filter(({ isStoring }) => isStoring);
      if (storing.length === 0) break;
      const next = await Promise.race([
        ...storing.map(({ port }) => port.ended()),
        expired.promise,
      ]);
      if (next === "expired") break;
    }
    clearTimeout(timer);
    await Promise.all(this.#levels.map(({ port }) => port.shutdown(deadline)));
  }

  /** What nobody has above, or is bringing there. */
  #missing(
    hashes: BlockHashes,
    wanted: WantedBlocks,
  ): { block: number; group: number; key: BlockKey }[] {
    const missing: { block: number; group: number; key: BlockKey }[] = [];
    for (let block = 0; block < wanted.numBlocks; block++) {
      for (let group = 0; group < wanted.numGroups; group++) {
        if (!wanted.isWanted(block, group)) continue;
        const key = hashes.keyOf(block, group);
        const coming = this.#fetches.levelOf(key);
        if (coming !== undefined) wanted.mark(block, group, coming.name);
        // One that is being stored to a host page is on the device too.
        else if (!this.#above.host.cache.has(key)) missing.push({ block, group, key });
      }
    }
    return missing;
  }

  #takeResults(level: Level): void {
    const results = level.port.takeResults();
    if (results.length === 0) return;
    level.ended(results);
    const loads = results.filter(({ kind }) => kind === "load");
    const arrived = this.#fetches.ended(level, loads);
    if (!level.port.driving.promote) return;
    for (const before of this.#levels.slice(0, this.#levels.indexOf(level))) before.stored(arrived);
  }
}
