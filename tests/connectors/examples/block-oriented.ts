/** A connector in forty lines: complete blocks are copied to host pages and brought back when a prompt wants them again. */
import {
  KvConnector,
  type BlockHashes,
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
  readonly #storing = new Map<FlightId, [BlockKey, PageId]>();

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
    for (const { key, id } of blocks)
      this.#context.transfers.load([this.#pages.get(key) ?? -1], [id]);
  }
  override buildConnectorMeta({ completed }: SchedulerOutput): void {
    for (const id of completed) {
      const key = this.#view.hashOf(id);
      if (key === undefined || this.#pages.has(key) || this.#context.transfers.numFree === 0)
        continue;
      const [page] = this.#context.pages.alloc(1) ?? [];
      if (page === undefined) return;
      this.#storing.set(this.#context.transfers.store([id], [page]), [key, page]);
    }
  }
  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const { id, ok } of transfers) {
      const [key, page] = this.#storing.get(id) ?? [];
      this.#storing.delete(id);
      if (key === undefined || page === undefined) continue;
      if (ok && !this.#pages.has(key)) this.#pages.set(key, page);
      else this.#context.pages.free([page]);
    }
  }
  override resetCache(_generation: number): void {
    this.#context.pages.free([...this.#pages.values()]);
    this.#pages.clear();
  }
}
