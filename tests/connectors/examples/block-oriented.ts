/** Complete blocks are copied to host pages and brought back when a prompt wants them again. */
import {
  KvConnector,
  type BlockHashes,
  type BlockId,
  type BlockKey,
  type FlightId,
  type GpuBlockPoolView,
  type LoadPlan,
  type PageId,
  type RequestView,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
  type WantedBlocks,
} from "../../../connectors/connector.ts";

export default class BlockOriented extends KvConnector {
  static readonly connectorName: string = "block-oriented";
  static readonly apiVersion: number = 1;
  static readonly options = {};
  #view!: GpuBlockPoolView;
  #context!: SchedulerContext;
  readonly #pages = new Map<BlockKey, PageId>();
  readonly #storing = new Map<FlightId, readonly [BlockKey, PageId][]>();

  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.#view = view;
  }
  override onSchedulerReady(context: SchedulerContext): void {
    this.#context = context;
  }
  override findBlocks(_request: RequestView, hashes: BlockHashes, wanted: WantedBlocks): undefined {
    for (let block = 0; block < wanted.numBlocks; block++)
      for (let group = 0; group < wanted.numGroups; group++)
        if (this.#pages.has(hashes.keyOf(block, group))) wanted.mark(block, group);
  }
  override updateStateAfterAlloc(_request: RequestView, { blocks }: LoadPlan): void {
    if (blocks.length === 0) return;
    // Planned is what was marked in this `schedule()`, and no page was given back since.
    const pages = blocks.map(({ key }) => this.#pages.get(key) as PageId);
    const ids = blocks.map(({ id }) => id);
    this.#context.transfers.load(pages, ids);
  }
  override buildConnectorMeta({ completed }: SchedulerOutput): void {
    const { transfers, pages } = this.#context;
    const found = new Map<BlockKey, BlockId>();
    for (const id of completed) {
      const key = this.#view.hashOf(id);
      if (key !== undefined && !this.#pages.has(key)) found.set(key, id);
    }
    const some = [...found].slice(0, Math.min(transfers.numFree, pages.numFree));
    const room = pages.alloc(some.length);
    if (some.length === 0 || room === undefined) return;
    const ids = some.map(([, id]) => id);
    const copies = some.map(([key], i): [BlockKey, PageId] => [key, room[i] as PageId]);
    this.#storing.set(transfers.store(ids, room), copies);
  }
  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const { id, ok } of transfers) {
      for (const [key, page] of this.#storing.get(id) ?? [])
        if (ok && !this.#pages.has(key)) this.#pages.set(key, page);
        else this.#context.pages.free([page]);
      this.#storing.delete(id);
    }
  }
  override resetCache(_generation: number): void {
    this.#context.pages.free([...this.#pages.values()]);
    this.#pages.clear();
  }
}
