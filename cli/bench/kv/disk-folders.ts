/** Folders for the disk tier of a bench: below `--kv-disk-path` or the system's for temporary files, and gone when the bench has ended. */

import { spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvEngineError } from "../../../engine/errors.ts";

export class DiskFolders implements Disposable {
  readonly #parent: string;
  readonly #made = new Set<string>();
  readonly #clear = (): void => {
    for (const path of this.#made) this.remove(path);
  };

  /** `parent`: empty = the system's. */
  constructor(parent: string) {
    this.#parent = parent === "" ? tmpdir() : parent;
    // However the bench ends.
    process.once("exit", this.#clear);
  }

  /** An empty one. Rejects with `bad_config` where none can be made. */
  async make(): Promise<string> {
    try {
      const path = await mkdtemp(join(this.#parent, "kvengine-bench-"));
      this.#made.add(path);
      return path;
    } catch (cause) {
      throw new KvEngineError("bad_config", `no folder can be made in ${this.#parent}`, {
        subject: "--kv-disk-path",
        hint: "name a folder that can be written",
        cause,
      });
    }
  }

  remove(path: string): void {
    rmSync(path, { recursive: true, force: true });
    this.#made.delete(path);
  }

  [Symbol.dispose](): void {
    process.off("exit", this.#clear);
    this.#clear();
  }
}

/**
 * Writes what is dirty of a folder's files and drops them from the system's page cache, so that they are read from the disk. Answers
 * whether that could be done: it is GNU dd's `nocache`.
 */
export async function dropFromPageCache(folder: string): Promise<boolean> {
  for (const name of readdirSync(folder)) {
    const file = join(folder, name);
    const flushed = await run("dd", `of=${file}`, "conv=notrunc,fdatasync", "count=0");
    if (!flushed || !(await run("dd", `if=${file}`, "iflag=nocache", "count=0"))) return false;
  }
  return true;
}

function run(command: string, ...args: readonly string[]): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const child = spawn(command, args, { stdio: "ignore" });
  child.on("error", () => resolve(false));
  child.on("close", (code) => resolve(code === 0));
  return promise;
}
