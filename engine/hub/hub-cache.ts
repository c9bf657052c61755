/**
 * The Hugging Face cache on disk, shared with that company's own tools:
 * `models--<org>--<name>/{blobs/<checksum>, refs/<branch> (a commit), snapshots/<commit>/<path> (a link to a blob)}`.
 */

import {
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { ownName } from "./abandoned.ts";
import type { HubFile } from "./hub-client.ts";
import type { HubSettings } from "./settings.ts";

const COMMIT = /^[0-9a-f]{40}$/;

export class RepoCache {
  readonly #folder: string;

  constructor({ cacheDir }: HubSettings, repo: string) {
    this.#folder = join(cacheDir, `models--${repo.replaceAll("/", "--")}`);
  }

  blobPath(file: HubFile): string {
    return join(this.#folder, "blobs", file.digest.hex);
  }

  /** Where a file of a commit is seen, whether it is there or not. */
  filePath(commit: string, path: string): string {
    return join(this.#folder, "snapshots", commit, path);
  }

  /** The commit a branch was at when it was last asked for; a commit is its own. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision;
    const text = await orUndefined(readFile(join(this.#folder, "refs", revision), "utf8"));
    const commit = text?.trim();
    return commit !== undefined && COMMIT.test(commit) ? commit : undefined;
  }

  /** Paths of the GGUF files of a commit that are whole. */
  async list(commit: string): Promise<string[]> {
    const root = join(this.#folder, "snapshots", commit);
    const names = (await orUndefined(readdir(root, { recursive: true }))) ?? [];
    const found: string[] = [];
    for (const name of names)
      if (name.toLowerCase().endsWith(".gguf") && (await isFile(join(root, name))))
        found.push(name);
    return found;
  }

  /** The checksum under which a file's bytes are kept. */
  async blobName(commit: string, path: string): Promise<string | undefined> {
    const target = await orUndefined(readlink(this.filePath(commit, path)));
    return target === undefined ? undefined : basename(target);
  }

  async hasBlob(file: HubFile): Promise<boolean> {
    const found = await orUndefined(stat(this.blobPath(file)));
    return found?.isFile() === true && found.size === file.size;
  }

  /** Makes a blob visible as a file of a commit, and the commit as where the branch is. */
  async link(revision: string, commit: string, file: HubFile): Promise<string> {
    const path = this.filePath(commit, file.path);
    await mkdir(dirname(path), { recursive: true });
    await replace(path, (temporary) =>
      symlink(relative(dirname(path), this.blobPath(file)), temporary),
    );
    if (!COMMIT.test(revision)) {
      const ref = join(this.#folder, "refs", revision);
      await mkdir(dirname(ref), { recursive: true });
      await replace(ref, (temporary) => writeFile(temporary, commit));
    }
    return path;
  }
}

/** Makes something under another name, then moves it: others see the old one or the new one. */
async function replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), ownName(`${basename(path)}.${crypto.randomUUID()}`, "tmp"));
  await make(temporary);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await orUndefined(stat(path)))?.isFile() === true;
}

/** Undefined for what is not there. */
async function orUndefined<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EINVAL") return undefined;
    throw error;
  }
}
