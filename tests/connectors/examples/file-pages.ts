/** Complete blocks are written to one file and come back in the next run: host pages are where they pass. Options: the file. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import {
  KvConnector,
  type BlockHashes,
  type BlockId,
  type BlockKey,
  type FlightId,
  type GpuBlockPoolView,
  type LoadPlan,
  type OptionValues,
  type PageId,
  type RequestView,
  type SchedulerContext,
  type SchedulerOutput,
  type TransferResult,
  type WantedBlocks,
} from "../../../connectors/connector.ts";

export default class FilePages extends KvConnector {
  static readonly connectorName: string = "file-pages";
  static readonly apiVersion: number = 1;
  static readonly keepsFiles: boolean = true;
  static readonly options = {
    file: { type: "text", default: "pages", help: "The file; its index lies beside it" },
  } as const;
  readonly #file: string;
  #view!: GpuBlockPoolView;
  #context!: SchedulerContext;
  /** In host pages. */
  readonly #pages = new Map<BlockKey, PageId>();
  /** What has a place in the file, in their order; "" = it is not there, or not yet. */
  #places: BlockKey[] = [];
  /** Their places, while they are written. */
  readonly #writing = new Map<FlightId, readonly [BlockKey, number][]>();
  /** What the last run left and is to be read: places and keys. */
  #kept: (readonly [number, BlockKey])[] = [];
  readonly #moving = new Map<FlightId, readonly [BlockKey, PageId][]>();

  constructor({ file }: OptionValues) {
    super();
    this.#file = String(file);
  }
  override bindGpuBlockPool(view: GpuBlockPoolView): void {
    this.#view = view;
  }
  override onSchedulerReady(context: SchedulerContext): void {
    this.#context = context;
    const index = `${this.#file}.json`;
    if (existsSync(index)) this.#places = JSON.parse(readFileSync(index, "utf8")) as BlockKey[];
    this.#kept = [...this.#places.entries()].filter(([, key]) => key !== "");
  }
  override findBlocks(_request: RequestView, hashes: BlockHashes, wanted: WantedBlocks): undefined {
    for (let block = 0; block < wanted.numBlocks; block++)
      for (let group = 0; group < wanted.numGroups; group++)
        if (this.#pages.has(hashes.keyOf(block, group))) wanted.mark(block, group, "file");
  }
  override updateStateAfterAlloc(_request: RequestView, { blocks }: LoadPlan): void {
    if (blocks.length === 0) return;
    const pages = blocks.map(({ key }) => this.#pages.get(key) as PageId);
    const ids = blocks.map(({ id }) => id);
    this.#context.transfers.load(pages, ids);
  }
  override buildConnectorMeta({ completed }: SchedulerOutput): void {
    const { transfers, pages } = this.#context;
    // Not all at the start, when the host pool has few pages yet.
    if (this.#kept.length > 0 && pages.numFree > 0) this.#read();
    const found = new Map<BlockKey, BlockId>();
    for (const id of completed) {
      const key = this.#view.hashOf(id);
      if (key !== undefined && !this.#pages.has(key)) found.set(key, id);
    }
    const some = [...found].slice(0, Math.min(transfers.numFree, pages.numFree));
    const room = pages.alloc(some.length);
    if (some.length === 0 || room === undefined) return;
    const ids = some.map(([, id]) => id);
    const keys = some.map(([key]) => key);
    this.#moving.set(transfers.store(ids, room), pairs(keys, room));
  }
  override updateConnectorOutput(transfers: readonly TransferResult[]): void {
    for (const { id, kind, ok, failedPageIds = [] } of transfers) {
      const moved = this.#moving.get(id) ?? [];
      this.#moving.delete(id);
      if (kind === "store" && ok) this.#write(moved);
      if (kind === "write" && ok) this.#written(this.#writing.get(id) ?? []);
      if (kind === "read") this.#context.metrics.count("read_pages", moved.length);
      if ((kind === "store" && !ok) || kind === "read")
        for (const [key, page] of moved)
          if (kind === "read" && !failedPageIds.includes(page)) this.#pages.set(key, page);
          else this.#context.pages.free([page]);
    }
  }
  override resetCache(_generation: number): void {
    this.#context.pages.free([...this.#pages.values()]);
    this.#pages.clear();
  }
  override shutdown(_deadline: number): void {
    writeFileSync(`${this.#file}.json`, JSON.stringify(this.#places));
  }

  #read(): void {
    const { files, pages } = this.#context;
    const some = this.#kept.splice(0, pages.numFree);
    const room = pages.alloc(some.length);
    if (files === undefined || room === undefined) return;
    const keys = some.map(([, key]) => key);
    const offsets = some.map(([place]) => place * files.recordBytes);
    this.#moving.set(files.read(this.#file, offsets, room, keys), pairs(keys, room));
  }

  #write(stored: readonly [BlockKey, PageId][]): void {
    const { files } = this.#context;
    if (files === undefined) return;
    const places = stored.map(([key], i): [BlockKey, number] => [key, this.#places.length + i]);
    this.#places.push(...stored.map(() => ""));
    for (const [key, page] of stored) this.#pages.set(key, page);
    const offsets = places.map(([, place]) => place * files.recordBytes);
    const pages = stored.map(([, page]) => page);
    this.#writing.set(files.write(this.#file, offsets, pages), places);
  }

  #written(places: readonly [BlockKey, number][]): void {
    for (const [key, place] of places) this.#places[place] = key;
    this.#context.metrics.count("written_pages", places.length);
  }
}

function pairs(keys: readonly BlockKey[], pages: readonly PageId[]): [BlockKey, PageId][] {
  return keys.map((key, i) => [key, pages[i] as PageId]);
}
