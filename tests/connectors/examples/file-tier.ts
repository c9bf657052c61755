/** Each page is a file, in a folder of the run's own. */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BlockKey, KvTier, type OptionValues } from "../../../connectors/connector.ts";

export default class FileTier extends KvTier {
  static readonly tierName: string = "files";
  static readonly apiVersion: number = 1;
  static readonly options = {
    folder: { type: "text", default: "kv-pages", help: "Folder that the run's folder lies in" },
  } as const;
  readonly #parent: string;
  #folder = "";
  #numParts = 0;

  constructor({ folder }: OptionValues) {
    super();
    this.#parent = String(folder);
  }

  override async start(): Promise<void> {
    await mkdir(this.#parent, { recursive: true });
    this.#folder = await mkdtemp(join(this.#parent, "run-"));
  }
  override has(keys: readonly BlockKey[]): Promise<readonly boolean[]> {
    return Promise.all(keys.map((key) => Bun.file(this.#path(key)).exists()));
  }
  override async store(key: BlockKey, page: Uint8Array): Promise<boolean> {
    const part = this.#path(`part-${this.#numParts++}`);
    // A copy: the page is taken away when the call times out.
    await writeFile(part, page.slice());
    await rename(part, this.#path(key));
    return true;
  }
  override async load(key: BlockKey, into: Uint8Array): Promise<boolean> {
    if (!(await Bun.file(this.#path(key)).exists())) return false;
    const page = await readFile(this.#path(key));
    if (page.length !== into.length) return false;
    into.set(page);
    return true;
  }
  override async remove(keys: readonly BlockKey[]): Promise<void> {
    await Promise.all(keys.map((key) => rm(this.#path(key), { force: true })));
  }
  override async shutdown(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }
}
