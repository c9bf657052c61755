/** An obviously correct ledger and view of one connector over `PoolModel`: plain arrays, searched from end to end. */

import type { PoolModel } from "./cache-model.ts";

/** What every connector of a run stands on. */
export interface ModelWorld {
  readonly pool: PoolModel;
  now: number;
  committed: number;
  pressed: boolean;
  /** Free blocks that may be taken. */
  spare: number;
}

export interface ModelLease {
  readonly ids: readonly number[];
  readonly ttl: number;
  expiresAt: number;
  recalledAt: number;
  open: boolean;
}

interface ModelTouch {
  readonly id: number;
  readonly expiresAt: number;
  state: "open" | "tombstone" | "gone";
}

interface ModelPass {
  /** Blocks that it came by. */
  readonly seen: Set<number>;
  /** Of blocks that it came by and that are where they were: how often they had come into the queue. */
  readonly passed: Map<number, number>;
  readonly within: number;
}

export interface ModelFound {
  readonly id: number;
  readonly key: string;
  readonly distance: number;
}

export class ConnectorModel {
  readonly leases: ModelLease[] = [];
  /** In order of opening. */
  touches: ModelTouch[] = [];
  closed = false;
  pass: ModelPass | undefined;
  numFreed = 0;
  /** Of each marked block the generation. */
  readonly #safe = new Map<number, number>();
  readonly #world: ModelWorld;
  readonly #maxHeld: number;
  readonly #holdTtl: number;

  constructor(world: ModelWorld, maxHeld: number, holdTtl: number) {
    this.#world = world;
    this.#maxHeld = maxHeld;
    this.#holdTtl = holdTtl;
  }

  /** One for each reference. */
  get holds(): number[] {
    return [
      ...this.leases.filter(({ open }) => open).flatMap(({ ids }) => ids),
      ...this.touches.filter(({ state }) => state === "open").map(({ id }) => id),
    ];
  }

  get numHeld(): number {
    return new Set(this.holds).size;
  }

  get nextDeadline(): number | undefined {
    const ends = [
      ...this.leases.filter(({ open }) => open),
      ...this.touches.filter(({ state }) => state === "open"),
    ].map(({ expiresAt }) => expiresAt);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Code of a refusal for the list alone. */
  checkIds(ids: readonly number[]): string | undefined {
    if (this.closed) return "closed";
    const { length } = this.#world.pool.blocks;
    if (ids.length >= length) return "invalid";
    for (const id of ids) {
      if (id === 0) return "null";
      if (!Number.isInteger(id) || id < 0 || id >= length) return "invalid";
    }
    return undefined;
  }

  lease(ids: readonly number[], ttl: number): ModelLease | string {
    const wrong = this.checkIds(ids);
    if (wrong !== undefined) return wrong;
    if (!(ttl >= 1 && ttl <= 86_400_000)) return "invalid";
    const refused = this.#take(ids);
    if (refused !== undefined) return refused;
    const { now } = this.#world;
    const lease = { ids, ttl, expiresAt: now + ttl, recalledAt: Infinity, open: ids.length > 0 };
    this.leases.push(lease);
    return lease;
  }

  touch(ids: readonly number[]): string | undefined {
    const wrong = this.checkIds(ids) ?? this.#take(ids);
    if (wrong !== undefined) return wrong;
    const expiresAt = this.#world.now + this.#holdTtl;
    for (const id of ids) this.touches.push({ id, expiresAt, state: "open" });
    return undefined;
  }

  free(ids: readonly number[]): string | undefined {
    const wrong = this.checkIds(ids);
    if (wrong !== undefined) return wrong;
    this.settle();
    const met: ModelTouch[] = [];
    for (const id of ids) {
      const touch = this.touches.find(
        (touch) => touch.id === id && touch.state !== "gone" && !met.includes(touch),
      );
      if (touch === undefined) return "notHeld";
      met.push(touch);
    }
    const tombstones = met.filter(({ state }) => state === "tombstone");
    for (const touch of tombstones.length > 0 ? tombstones : met) touch.state = "gone";
    this.touches = this.touches.filter(({ state }) => state !== "gone");
    if (tombstones.length > 0) return "lease_expired";
    this.#world.pool.drop(ids);
    return undefined;
  }

  renew(lease: ModelLease, ttl: number | undefined): boolean | string {
    if (ttl !== undefined && !(ttl >= 1 && ttl <= 86_400_000)) return "invalid";
    this.settle();
    if (!lease.open || this.#world.now >= lease.recalledAt) return false;
    const until = lease.recalledAt + this.#holdTtl;
    lease.expiresAt = Math.min(this.#world.now + (ttl ?? lease.ttl), until);
    return true;
  }

  release(lease: ModelLease): void {
    this.settle();
    if (lease.open) this.#end(lease);
  }

  isLive(lease: ModelLease): boolean {
    return lease.open && lease.expiresAt > this.#world.now;
  }

  /** Answers what `expire` does. */
  expire(): number {
    this.settle();
    const { numFreed } = this;
    this.numFreed = 0;
    return numFreed;
  }

  recall(deadline: number): void {
    for (const lease of this.leases) {
      if (!lease.open) continue;
      lease.recalledAt = Math.min(lease.recalledAt, deadline);
      lease.expiresAt = Math.min(lease.expiresAt, lease.recalledAt + this.#holdTtl);
    }
  }

  disable(): void {
    this.closed = true;
    this.pass = undefined;
    const open = this.leases.filter((lease) => lease.open);
    for (const lease of open.sort((a, b) => a.expiresAt - b.expiresAt)) this.#end(lease);
    this.#world.pool.drop(this.holds);
    this.touches = [];
  }

  /** Ends what is due: leases in the order of their ends, then touches. */
  settle(): void {
    const { now, pool } = this.#world;
    const due = this.leases.filter(({ open, expiresAt }) => open && expiresAt <= now);
    for (const lease of due.sort((a, b) => a.expiresAt - b.expiresAt))
      this.numFreed += this.#end(lease);
    const touches = this.touches.filter(
      ({ state, expiresAt }) => state === "open" && expiresAt <= now,
    );
    for (const touch of touches) touch.state = "tombstone";
    const ids = touches.map(({ id }) => id);
    pool.drop(ids);
    this.numFreed += this.#countFreed(ids);
  }

  isVisible(id: number): boolean {
    const { key, step } = this.#world.pool.block(id);
    return key !== undefined && step <= this.#world.committed;
  }

  /** 0 = none. */
  find(key: string): number {
    const { blocks } = this.#world.pool;
    const ids = [...blocks.keys()].filter((id) => blocks[id]?.key === key && this.isVisible(id));
    return ids.sort((a, b) => blocks[a]!.order - blocks[b]!.order)[0] ?? 0;
  }

  markSafe(ids: readonly number[]): void {
    for (const id of ids)
      if (this.isVisible(id)) this.#safe.set(id, this.#world.pool.block(id).generation);
  }

  clearSafe(keys: readonly string[]): void {
    for (const [id, { key }] of this.#world.pool.blocks.entries())
      if (key !== undefined && keys.includes(key)) this.#safe.delete(id);
  }

  begin(within: number): ModelPass {
    this.pass = { seen: new Set(), passed: new Map(), within };
    return this.pass;
  }

  /** The next block of the open pass; undefined = it has ended. */
  next(): ModelFound | undefined {
    const { pass } = this;
    if (pass === undefined) throw new Error("no pass is open");
    const { queue, blocks } = this.#world.pool;
    const isWherePassed = (id: number): boolean => pass.passed.get(id) === blocks[id]!.entered;
    let index = queue.findLastIndex(isWherePassed) + 1;
    for (; index < queue.length && index < pass.within; index++) {
      const id = queue[index]!;
      const { key, flights, generation, entered } = blocks[id]!;
      pass.passed.set(id, entered);
      if (pass.seen.has(id)) continue;
      pass.seen.add(id);
      if (key === undefined || !this.isVisible(id) || flights > 0) continue;
      if (this.#safe.get(id) === generation) continue;
      return { id, key, distance: index };
    }
    this.pass = undefined;
    return undefined;
  }

  #take(ids: readonly number[]): string | undefined {
    this.settle();
    if (!ids.every((id) => this.isVisible(id))) return "stale";
    if (ids.length > 0 && this.#world.pressed) return "pressure";
    const { holds } = this;
    if (holds.length + ids.length > 16 * this.#maxHeld) return "budget";
    if (new Set([...holds, ...ids]).size > this.#maxHeld) return "budget";
    const numFree = new Set(ids.filter((id) => this.#world.pool.block(id).references === 0)).size;
    if (numFree > this.#world.spare) return "pressure";
    this.#world.pool.hold(ids);
    return undefined;
  }

  #end(lease: ModelLease): number {
    lease.open = false;
    this.#world.pool.drop(lease.ids);
    return this.#countFreed(lease.ids);
  }

  #countFreed(ids: readonly number[]): number {
    return new Set(ids.filter((id) => this.#world.pool.block(id).references === 0)).size;
  }
}
