/**
 * The host's memory as a second home of KV blocks: content that leaves the device is found again in host pages and copied back instead
 * of being computed. It decides what to store and what to forget; whether a request loads or computes is the engine's decision.
 */

import {
  API_VERSION,
  type BlockHashes,
  type BlockId,
  type BlockKey,
  type FlightId,
  type GpuBlockPoolView,
  type KvEvent,
  KvConnector,
  type LoadPlan,
  type RequestView,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
  type WantedBlocks,
} from "./connector.ts";
import { Backlog } from "./backlog.ts";
import { EvictionWindow } from "./eviction-window.ts";
import { HostLevel } from "./host-level.ts";
import { HostLoads, type Moving } from "./host-loads.ts";
import type { LowerTiers } from "./lower-tiers.ts";
import { MovedContent } from "./moved-content.ts";
import type { ConnectorOptions, OptionValues } from "./options.ts";
import { RoomyContent } from "./roomy-content.ts";
import { StepPace } from "./step-pace.ts";
import { AutoMode, type StoreMode } from "./store-mode.ts";

const TIER = "host";
/** Blocks of one store: all of them stay where they are until the last was copied, and each call costs. */
const MOST_OF_STORE = 32;
/** Windows that one look at the blocks near eviction covers, so that not each step has to look; one while there is room for many more. */
const WINDOWS_OF_LOOK = 4;

/** As many blocks near eviction are stored when nothing runs: to look at more would hold the next request up. */
const IDLE_WINDOW = 65_536;
/** Blocks of a backlog that are looked at together. */
const LOOKED_AT_ONCE = 256;

export default class CpuOffload extends KvConnector {
  static readonly connectorName: string = "cpu-offload";
  static readonly apiVersion: number = API_VERSION;
  static readonly options: ConnectorOptions = {
    mode: {
      type: "choice",
      choices: ["auto", "eager", "lazy"],
      default: "auto",
      help: "When blocks are copied to the host: eager = once complete, lazy = when they come near eviction, auto = by what is seen",
    },
  };

  readonly #fixedMode: StoreMode | undefined;
  readonly #auto = new AutoMode(() => this.#copyCost());
  readonly #below: LowerTiers | undefined;
  readonly #stores = new Map<FlightId, Moving>();
  #loads!: HostLoads;
  /** Complete blocks that are not stored yet, in eager mode. */
  readonly #backlog = new Backlog();
  /** While the device has room for many more blocks. */
  #roomy: RoomyContent | undefined = new RoomyContent();
  #host!: HostLevel;
  #view!: GpuBlockPoolView;
  #context!: SchedulerContext;
  readonly #pace = new StepPace();
  readonly #ahead = new EvictionWindow();
  /** Blocks from the head of the free queue that are stored before they are handed out: as of the last step. */
  #window = 0;
  /** Nothing is computed, and nothing was to be. */
  #isIdle = true;
  /** A store was cancelled since the last step: somebody lacks blocks, and would cancel the next one too. */
  #yields = false;
  /** Of the view, when it was looked at last. */
  #numLost = 0;
  /** Blocks from the head of the free queue of which none is left to store: they are stored, on their way, or have no content. */
  #numCovered = 0;

  /** `below`: where what leaves host pages is kept. */
  constructor(options: OptionValues, below?: LowerTiers) {
    super();
    this.#below = below;
    const { mode } = options;
    this.#fixedMode = mode === "eager" || mode === "lazy" ? mode : undefined;
    if (mode === "eager") this.#roomy = undefined;
  }

  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.#view = view;
  }

  override onSchedulerReady(context: SchedulerContext): void {
    this.#context = context;
    const onForgotten = (keys: readonly BlockKey[]): void => this.#below?.forgotten(keys);
    const onUnsafe = (): void => void (this.#numCovered = 0);
    this.#host = new HostLevel(this.#view, context, { onForgotten, onUnsafe });
    this.#below?.start(context, {
      host: this.#host,
      load: (keys, blocks) => this.#loads.begin(keys, blocks),
    });
    const parts = { view: this.#view, host: this.#host, below: this.#below };
    this.#loads = new HostLoads({ ...parts, transfers: context.transfers });
    const store = (ids: readonly BlockId[]): void => void this.#storeAll(ids, true);
    context.serveContent(new MovedContent({ ...parts, store }));
  }

  override findBlocks(
    _request: RequestView,
    hashes: BlockHashes,
    wanted: WantedBlocks,
  ): "pending" | undefined {
    const { cache } = this.#host;
    if (cache.size === 0) return this.#below?.find(hashes, wanted);
    for (let block = 0; block < wanted.numBlocks; block++) {
      for (let group = 0; group < wanted.numGroups; group++) {
        if (cache.ready(hashes.keyOf(block, group)) !== undefined) wanted.mark(block, group, TIER);
      }
    }
    return this.#below?.find(hashes, wanted);
  }

  override updateStateAfterAlloc(_request: RequestView, plan: LoadPlan): void {
    const { cache } = this.#host;
    const there = plan.blocks.filter(({ key }) => cache.ready(key) !== undefined);
    this.#loads.begin(
      there.map(({ key }) => key),
      there.map(({ id }) => id),
    );
    if (there.length < plan.blocks.length)
      this.#below?.bring(
        plan.blocks.filter(({ key }) => cache.ready(key) === undefined),
        plan.deadline,
      );
    this.#auto.reused(plan.blocks.length);
    // Of the free queue it may have taken any.
    this.#numCovered = 0;
  }

  override buildConnectorMeta(output: SchedulerOutput): void {
    this.#observe(output);
    if (this.#roomy !== undefined) this.#fill(this.#roomy, output.completed);
    else if (this.#mode === "eager") this.#backlog.add(output.completed);
    this.#storeFirst(this.#backlog, true);
    this.#isIdle = output.numInFlight === 0;
    if (output.stepId >= 0) this.#yields = false;
    if (this.#mode === "lazy") this.#storeNearEviction(this.#isIdle);
    this.#below?.work();
  }

  override requestFinished(
    { priority }: RequestView,
    blocksByGroup: readonly (readonly BlockId[])[],
  ): undefined {
    if (priority < 0) {
      const keys = this.#keysOf(blocksByGroup.flat());
      this.#host.used(keys, priority);
      this.#below?.used(keys, priority);
    }
    // Its blocks may be handed out in the next schedule, before the end of which nothing else is asked.
    if (this.#mode === "eager" || this.#isShort) this.#storeReleased(blocksByGroup);
  }

  override onPreempted(requestIds: readonly string[], areSwapped: readonly boolean[]): void {
    for (const [i, id] of requestIds.entries())
      if (areSwapped[i] === true) this.#storeReleased(this.#context.blocksOf(id) ?? []);
  }

  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const result of transfers) {
      if (!result.ok) this.#numCovered = 0;
      if (result.kind === "load") this.#loads.ended(result);
      else this.#stored(result);
    }
    // The next step may be a long time off.
    this.#storeFirst(this.#backlog, true);
    if (this.#mode === "lazy") this.#storeNearEviction(this.#isIdle);
    this.#below?.work();
  }

  override takeEvents(): readonly KvEvent[] {
    const events = this.#host.takeEvents();
    return this.#below === undefined ? events : [...events, ...this.#below.takeEvents()];
  }

  override resetCache(): void {
    this.#host.clear();
    this.#below?.reset();
    this.#stores.clear();
    this.#loads.clear();
    this.#backlog.clear();
    if (this.#fixedMode !== "eager") this.#roomy = new RoomyContent();
    this.#numCovered = 0;
  }

  override stats(): Readonly<Record<string, number>> {
    this.#below?.report();
    return { pages: this.#host.cache.size, eager: this.#mode === "eager" ? 1 : 0 };
  }

  override shutdown(deadline: number): void | Promise<void> {
    return this.#below?.shutdown(deadline);
  }

  get #mode(): StoreMode {
    if (this.#fixedMode !== undefined) return this.#fixedMode;
    if (this.#isShort) return "eager";
    return this.#roomy === undefined ? this.#auto.mode : "lazy";
  }

  /** Whether what becomes free is handed out before it could be seen near eviction and be copied. */
  get #isShort(): boolean {
    return this.#view.numFreeBlocks < this.#window;
  }

  /** Blocks that never held content become few: from now on what is complete is stored as the mode says. */
  #fill(roomy: RoomyContent, completed: readonly BlockId[]): void {
    roomy.add(completed);
    if (!roomy.isNearEnd(this.#view.numBlocks, this.#window)) return;
    this.#roomy = undefined;
    if (this.#mode === "eager") this.#backlog.add(roomy.unstored.first(Infinity));
  }

  #keysOf(ids: readonly BlockId[]): BlockKey[] {
    return ids.flatMap((id) => (id === 0 ? [] : (this.#view.hashOf(id) ?? [])));
  }

  /** Stores blocks that are about to be released: the tail of a table first, as they are evicted. */
  #storeReleased(blocksByGroup: readonly (readonly BlockId[])[]): void {
    const blocks = blocksByGroup.flatMap((ids) => ids.filter((id) => id !== 0).toReversed());
    this.#backlog.add(this.#storeAll(blocks, true));
  }

  /** Stores what comes first of a backlog; what finds no room stays there. */
  #storeFirst(backlog: Backlog, mayForget: boolean): void {
    while (backlog.size > 0) {
      const some = backlog.first(LOOKED_AT_ONCE);
      const numLeft = this.#storeAll(some, mayForget).length;
      backlog.drop(some.length - numLeft);
      if (numLeft > 0) return;
    }
  }

  /** Stores those that are not stored; answers those that found no room. Others are forgotten for them where that `mayForget`. */
  #storeAll(ids: readonly BlockId[], mayForget: boolean): BlockId[] {
    const blocks: BlockId[] = [];
    const keys: BlockKey[] = [];
    const wanted = new Set<BlockKey>();
    const most = this.#mostToStore(mayForget);
    for (const [i, id] of ids.entries()) {
      const key = this.#view.hashOf(id);
      if (key === undefined || wanted.has(key)) continue;
      if (this.#host.cache.has(key)) {
        if (this.#host.cache.ready(key) !== undefined) this.#view.markSafe([id]);
        continue;
      }
      if (blocks.length >= most) {
        this.#store(blocks, keys);
        return ids.slice(i);
      }
      blocks.push(id);
      keys.push(key);
      wanted.add(key);
    }
    this.#store(blocks, keys);
    return [];
  }

  #storeNearEviction(isIdle: boolean): void {
    if (isIdle && this.#yields) return;
    // When nothing runs, what is left is stored as far as nothing else has to be forgotten for it.
    if (isIdle && this.#roomy !== undefined) {
      // Not by way of the free queue, where those that never held content come first.
      this.#storeFirst(this.#roomy.unstored, false);
      return;
    }
    const { numFreeBlocks } = this.#view;
    const window = Math.min(numFreeBlocks, isIdle ? IDLE_WINDOW : this.#window);
    if (this.#numCovered >= window) return;
    const most = this.#mostToStore(!isIdle);
    const windows = isIdle || this.#roomy !== undefined ? 1 : WINDOWS_OF_LOOK;
    const within = Math.min(numFreeBlocks, windows * window);
    let covered = within;
    const blocks: BlockId[] = [];
    const keys = new Set<BlockKey>();
    for (const { id, hash, distance } of this.#view.iterFreeBlockIdsWithHash(within)) {
      if (blocks.length >= most) {
        covered = distance;
        break;
      }
      if (this.#host.cache.has(hash)) {
        if (this.#host.cache.ready(hash) !== undefined) this.#view.markSafe([id]);
      } else if (!keys.has(hash)) {
        blocks.push(id);
        keys.add(hash);
      }
    }
    this.#numCovered = covered;
    this.#store(blocks, [...keys]);
  }

  /** Blocks that may be stored now. What is stored is forgotten for others only once the pool can grow no more. */
  #mostToStore(mayForget: boolean): number {
    const { transfers, pages } = this.#context;
    const { numFree } = transfers;
    const room = pages.numFree;
    if (numFree <= room || !mayForget || pages.isGrowing) return Math.min(numFree, room);
    return Math.min(numFree, this.#host.numAvailable);
  }

  /** The time that copying a block takes, by the time that computing it takes. */
  #copyCost(): number {
    const { ms, tokens } = this.#pace;
    if (tokens === 0 || ms === 0) return 0;
    const { groups, pages, transfers } = this.#context;
    const copyMs = (1000 * groups.length * pages.pageBytes) / transfers.rates.storeBytesPerSecond;
    return copyMs / ((this.#view.blockSize * ms) / tokens);
  }

  #store(blocks: readonly BlockId[], keys: readonly BlockKey[]): void {
    const pages = this.#host.take(keys);
    for (let from = 0; from < pages.length; from += MOST_OF_STORE) {
      const to = pages.slice(from, from + MOST_OF_STORE);
      const some = blocks.slice(from, from + to.length);
      const flight = this.#context.transfers.store(some, to);
      this.#stores.set(flight, { keys: keys.slice(from, from + to.length), blocks: some });
    }
    this.#auto.stored(pages.length);
  }

  #stored({ id, failedBlockIds, cancelled }: TransferResult): void {
    const moving = this.#stores.get(id);
    // Of before a reset.
    if (moving === undefined) return;
    this.#stores.delete(id);
    const { keys, blocks } = moving;
    if (cancelled) {
      this.#yields = true;
      this.#roomy?.unstored.add(blocks);
    }
    const failed = new Set(failedBlockIds);
    const stored: BlockKey[] = [];
    for (const [i, key] of keys.entries()) {
      if (failed.has(blocks[i] as BlockId)) this.#host.drop(key);
      else stored.push(key);
    }
    this.#host.filled(stored);
    this.#below?.stored(stored);
  }

  /** Blocks that were handed out before they could be stored. */
  #countLost(): void {
    const { numLost } = this.#view;
    const lost = numLost - this.#numLost;
    if (lost === 0) return;
    this.#numLost = numLost;
    const isFull = this.#host.numAvailable === 0;
    if (!isFull) this.#auto.outrun(lost);
    const reason = isFull ? "full" : "outrun";
    this.#context.metrics.count("stores_declined", lost, { reason });
  }

  #observe(output: SchedulerOutput): void {
    const { stepId, numAllocatedBlocks, numScheduledTokens, numInFlight, completed } = output;
    if (numAllocatedBlocks > 0) this.#countLost();
    this.#numCovered -= numAllocatedBlocks;
    // Of a request that ended before its step did: it was passed over, since its content did not count yet.
    if (completed.some((id) => this.#view.refCount(id) === 0)) this.#numCovered = 0;
    if (stepId < 0) {
      if (numInFlight === 0) this.#pace.rested();
      return;
    }
    this.#pace.observe(numScheduledTokens, this.#context.now());
    const { groups, maxBatchedTokens, transfers } = this.#context;
    this.#ahead.observe(
      numAllocatedBlocks,
      this.#pace.ms === 0 ? 0 : transfers.rates.storeMs / this.#pace.ms,
    );
    const least = 2 * groups.length * Math.ceil(maxBatchedTokens / this.#view.blockSize);
    this.#window = Math.max(least, this.#ahead.blocks);
  }
}
