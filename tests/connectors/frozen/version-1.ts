/**
 * A connector written for version 1 of the interface. FROZEN: it stands for the connectors that people have. A change of the interface
 * that needs a change here is a new major version. It uses every hook, and every call that a hook may make.
 */

import {
  API_VERSION,
  type BlockHashes,
  type BlockId,
  type BlockKey,
  type BlockLease,
  type ConnectorOptions,
  type FlightId,
  type GpuBlockPoolView,
  KvConnector,
  type KvEvent,
  type LoadPlan,
  type OptionValues,
  type PageId,
  RefusedError,
  type RequestView,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
  type WantedBlocks,
} from "kvengine/connector";

interface Copy {
  readonly page: PageId;
  stored: boolean;
}

export default class FrozenConnector extends KvConnector {
  static readonly connectorName = "frozen";
  static readonly apiVersion = 1;
  static readonly options: ConnectorOptions = {
    copies: {
      type: "integer",
      default: 64,
      min: 1,
      max: 1_000_000,
      unit: "blocks",
      help: "Blocks that it keeps",
    },
    share: {
      type: "number",
      default: 0.5,
      min: 0,
      max: 1,
      help: "Part of the free pages that it takes",
    },
    size: { type: "bytes", default: 0, min: 0, max: 1e15, help: "Bytes that it keeps at most" },
    enabled: { type: "boolean", default: true, help: "Whether it keeps anything" },
    tier: { type: "text", default: "host", help: "What it calls its copies" },
    mode: { type: "choice", choices: ["eager", "lazy"], default: "eager", help: "When it stores" },
  };

  readonly #maxCopies: number;
  readonly #mode: string;
  readonly #tier: string;
  readonly #copies = new Map<BlockKey, Copy>();
  readonly #flights = new Map<FlightId, readonly BlockKey[]>();
  readonly #leases = new Map<string, BlockLease>();
  readonly #events: KvEvent[] = [];
  #pool: GpuBlockPoolView | undefined;
  #context: SchedulerContext | undefined;
  #generation = 0;
  #requests = 0;

  constructor(options: OptionValues) {
    super();
    if (API_VERSION !== 1) throw new Error(`written for version 1, not ${String(API_VERSION)}`);
    this.#maxCopies = options["enabled"] === true ? Number(options["copies"]) : 0;
    this.#mode = String(options["mode"]);
    this.#tier = String(options["tier"]);
  }

  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.#pool = view;
  }

  override onSchedulerReady(context: SchedulerContext): void {
    this.#context = context;
    const kinds = context.groups.map(({ kind, window }) => `${kind} ${window}`).join(", ");
    context.log.info(
      `${context.name}: ${kinds}; ${context.pages.numPages} pages of ${context.pages.pageBytes} bytes`,
    );
  }

  override onNewRequest(request: RequestView): void {
    this.#requests++;
    this.#ready.metrics.count("tokens", request.numPromptTokens, {
      priority: String(request.priority),
    });
  }

  override findBlocks(
    _request: RequestView,
    hashes: BlockHashes,
    wanted: WantedBlocks,
  ): "pending" | undefined {
    const end = Math.min(wanted.numBlocks, hashes.length);
    for (let block = wanted.numDeviceBlocks; block < end; block++) {
      for (let group = 0; group < wanted.numGroups; group++) {
        const copy = this.#copies.get(hashes.keyOf(block, group));
        if (copy?.stored !== true) return undefined;
        if (wanted.isWanted(block, group)) wanted.mark(block, group, this.#tier);
      }
    }
    return undefined;
  }

  override updateStateAfterAlloc(_request: RequestView, plan: LoadPlan): void {
    if (plan.blocks.length === 0 || plan.deadline < this.#ready.now()) return;
    const pages = plan.blocks.map(({ key }) => this.#copies.get(key)?.page ?? -1);
    this.#ready.transfers.load(
      pages,
      plan.blocks.map(({ id }) => id),
    );
  }

  override buildConnectorMeta(output: SchedulerOutput): void {
    const { pages, transfers, log } = this.#ready;
    const blocks =
      this.#mode === "eager" ? output.completed : this.#nearEviction(output.numAllocatedBlocks);
    const byKey = new Map<BlockKey, BlockId>();
    for (const id of blocks) {
      const key = this.#bound.hashOf(id);
      if (key !== undefined && !this.#copies.has(key)) byKey.set(key, id);
    }
    const fresh = [...byKey];
    const room = transfers.numFree > 0 ? this.#maxCopies - this.#copies.size : 0;
    const count = Math.min(fresh.length, room);
    const taken = count > 0 ? pages.alloc(count) : undefined;
    if (taken === undefined) return;
    try {
      const stored = fresh.slice(0, count);
      const flight = transfers.store(
        stored.map(([, id]) => id),
        taken,
      );
      this.#flights.set(
        flight,
        stored.map(([key]) => key),
      );
      for (const [i, [key]] of stored.entries())
        this.#copies.set(key, { page: taken[i] ?? -1, stored: false });
    } catch (thrown) {
      if (!(thrown instanceof RefusedError)) throw thrown;
      log.warn(`no store: ${thrown.code}, ${thrown.available ?? 0} could begin`);
      pages.free(taken);
    }
  }

  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const { id, kind, ok, cancelled, failedBlockIds } of transfers) {
      if (kind === "load") {
        this.#ready.metrics.count("loads", 1, { ok: String(ok) });
        continue;
      }
      const keys = this.#flights.get(id) ?? [];
      this.#flights.delete(id);
      if (ok) {
        for (const key of keys) {
          const copy = this.#copies.get(key);
          if (copy !== undefined) copy.stored = true;
        }
        this.#events.push({ kind: "stored", keys, medium: this.#tier });
      } else {
        this.#drop(keys);
        if (!cancelled) this.#ready.log.error(`a store failed for ${failedBlockIds.length} blocks`);
      }
    }
  }

  override requestFinished(
    request: RequestView,
    blocksByGroup: readonly (readonly BlockId[])[],
  ): Readonly<Record<string, unknown>> | undefined {
    const first = blocksByGroup.flat().find((id) => id !== 0);
    if (first === undefined) return undefined;
    try {
      const lease = this.#bound.lease([first], { ttlMs: 1000 });
      this.#leases.set(request.id, lease);
      if (lease.live && !lease.renew(2000)) lease.release();
      this.#bound.touchBlocks([first]);
      this.#bound.freeBlocks([first]);
    } catch (thrown) {
      if (!(thrown instanceof RefusedError)) throw thrown;
    }
    return { tokens: request.numTokens, blocks: blocksByGroup.map((ids) => ids.length) };
  }

  override onPreempted(requestIds: readonly string[]): void {
    for (const id of requestIds)
      this.#ready.log.info(`${id}: ${this.#ready.blocksOf(id)?.length ?? 0} groups`);
  }

  override onMemoryPressure(_numBlocks: number, deadline: number): void {
    if (deadline < this.#ready.now()) return;
    for (const lease of this.#leases.values()) lease.release();
    this.#leases.clear();
    for (const flight of this.#flights.keys()) this.#ready.transfers.cancel(flight);
  }

  override takeEvents(): readonly KvEvent[] {
    return this.#events.splice(0);
  }

  override resetCache(generation: number): void {
    this.#generation = generation;
    this.#drop([...this.#copies].flatMap(([key, { stored }]) => (stored ? [key] : [])));
    this.#events.push({ kind: "cleared", keys: [], medium: this.#tier });
    this.#ready.wake();
  }

  override stats(): Readonly<Record<string, number>> {
    const { loadBytesPerSecond, latencyMs } = this.#ready.transfers.rates;
    return {
      copies: this.#copies.size,
      requests: this.#requests,
      generation: this.#generation,
      load_bytes_per_second: loadBytesPerSecond,
      latency_ms: latencyMs,
    };
  }

  override async shutdown(deadline: number): Promise<void> {
    await Promise.resolve();
    this.#ready.log.info(`${deadline - this.#ready.now()} ms left, ${this.#copies.size} copies`);
  }

  #nearEviction(numAllocated: number): readonly BlockId[] {
    const ids: BlockId[] = [];
    for (const { id, distance } of this.#bound.iterFreeBlockIdsWithHash()) {
      if (distance > 2 * numAllocated) break;
      if (this.#bound.refCount(id) === 0) ids.push(id);
    }
    return ids;
  }

  #drop(keys: readonly BlockKey[]): void {
    const pages = keys.flatMap((key) => this.#copies.get(key)?.page ?? []);
    for (const key of keys) this.#copies.delete(key);
    this.#bound.clearSafe(keys);
    if (pages.length > 0) this.#ready.pages.free(pages);
    this.#events.push({ kind: "removed", keys, medium: this.#tier });
  }

  get #bound(): GpuBlockPoolView {
    if (this.#pool === undefined) throw new Error("no pool was bound");
    return this.#pool;
  }

  get #ready(): SchedulerContext {
    if (this.#context === undefined) throw new Error("the scheduler is not ready");
    return this.#context;
  }
}
