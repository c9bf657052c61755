/**
 * A connector in the shape of vLLM's: it counts tokens, touches blocks that are still to be copied, frees them when the copy has ended,
 * and walks the free queue. It uses none of what is newer: no `findBlocks`, no keys of a request, no leases.
 */
import {
  type BlockId,
  type BlockKey,
  type FlightId,
  type GpuBlockPoolView,
  KvConnector,
  type LoadPlan,
  type PageId,
  RefusedError,
  type RequestView,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
} from "../../../connectors/connector.ts";

interface Copy {
  readonly ids: readonly BlockId[];
  readonly keys: readonly BlockKey[];
  readonly pages: readonly PageId[];
}

export default class VllmShape extends KvConnector {
  static readonly connectorName: string = "vllm-shape";
  static readonly apiVersion: number = 1;
  static readonly options = {};
  #pool!: GpuBlockPoolView;
  #context!: SchedulerContext;
  readonly #pages = new Map<BlockKey, PageId>();
  /** Of each finished prompt, its tokens and the keys of its blocks: what vLLM's connectors keep by request. */
  readonly #prompts: { readonly tokens: Int32Array; readonly keys: readonly BlockKey[] }[] = [];
  readonly #copies = new Map<FlightId, Copy>();

  override bindGpuBlockPool(pool: GpuBlockPoolView): void {
    this.#pool = pool;
  }

  override onSchedulerReady(context: SchedulerContext): void {
    this.#context = context;
  }

  override getNumNewMatchedTokens(request: RequestView, numComputedTokens: number): number {
    // A number of tokens means all groups, and it stores the blocks of one.
    if (this.#context.groups.length > 1) return 0;
    const tokens = request.tokenIds();
    const { blockSize } = this.#pool;
    let most = 0;
    for (const prompt of this.#prompts) {
      let same = 0;
      while (same < prompt.tokens.length && prompt.tokens[same] === tokens[same]) same++;
      let blocks = Math.floor(numComputedTokens / blockSize);
      while ((blocks + 1) * blockSize <= same && this.#pages.has(prompt.keys[blocks] ?? ""))
        blocks++;
      most = Math.max(most, blocks * blockSize - numComputedTokens);
    }
    return most;
  }

  override updateStateAfterAlloc(_request: RequestView, { blocks }: LoadPlan): void {
    const there = blocks.filter(({ key }) => this.#pages.has(key));
    if (there.length === 0) return;
    const pages = there.map(({ key }) => this.#pages.get(key) as PageId);
    this.#context.transfers.load(
      pages,
      there.map(({ id }) => id),
    );
  }

  override buildConnectorMeta(_output: SchedulerOutput): void {
    const ids: BlockId[] = [];
    for (const { id, hash, distance } of this.#pool.iterFreeBlockIdsWithHash()) {
      if (distance > 8 || ids.length >= 4) break;
      if (!this.#pages.has(hash)) ids.push(id);
    }
    this.#store(ids);
  }

  override requestFinished(
    request: RequestView,
    [blocks = []]: readonly (readonly BlockId[])[],
  ): undefined {
    const full = blocks.slice(0, Math.floor(request.numTokens / this.#pool.blockSize));
    const keys = full.map((id) => (id === 0 ? "" : (this.#pool.hashOf(id) ?? "")));
    this.#prompts.push({ tokens: request.tokenIds(), keys });
    if (this.#prompts.length > 64) this.#prompts.shift();
    this.#store(
      full.filter((id, i) => id !== 0 && keys[i] !== "" && !this.#pages.has(keys[i] as BlockKey)),
    );
  }

  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const { id, ok } of transfers) {
      const copy = this.#copies.get(id);
      this.#copies.delete(id);
      if (copy === undefined) continue;
      this.#free(copy.ids);
      for (const [i, key] of copy.keys.entries()) {
        const page = copy.pages[i] as PageId;
        if (ok && !this.#pages.has(key)) this.#pages.set(key, page);
        else this.#context.pages.free([page]);
      }
    }
  }

  override resetCache(_generation: number): void {
    this.#context.pages.free([...this.#pages.values()]);
    this.#pages.clear();
    this.#prompts.length = 0;
  }

  /** Holds the blocks until their copy has ended, as vLLM's connectors must. The engine may refuse either, and then nothing is copied. */
  #store(ids: readonly BlockId[]): void {
    const some = ids.slice(0, Math.min(ids.length, this.#context.transfers.numFree));
    if (some.length === 0) return;
    const pages = this.#context.pages.alloc(some.length);
    if (pages === undefined) return;
    const keys = some.map((id) => this.#pool.hashOf(id) as BlockKey);
    let held: readonly BlockId[] = [];
    try {
      this.#pool.touchBlocks(some);
      held = some;
      const flight = this.#context.transfers.store(some, pages);
      this.#copies.set(flight, { ids: some, keys, pages });
    } catch (refused) {
      if (!(refused instanceof RefusedError)) throw refused;
      this.#free(held);
      this.#context.pages.free(pages);
    }
  }

  /** One by one: a touch that has ended at its deadline is refused, and nothing is left to free of it. */
  #free(ids: readonly BlockId[]): void {
    for (const id of ids) {
      try {
        this.#pool.freeBlocks([id]);
      } catch (refused) {
        if (!(refused instanceof RefusedError) || refused.code !== "lease_expired") throw refused;
      }
    }
  }
}
