/** Brings one file of the Hub to a place on disk: resumes what was cut, checks size and checksum, appears whole or not at all. */

import { type FileHandle, mkdir, open, rename, rm, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KvEngineError } from "../errors.ts";
import { findAbandoned, ownName } from "./abandoned.ts";
import { FileDigest } from "./digest.ts";
import { type HubFile, requestFile } from "./hub-client.ts";
import type { OnProgress } from "./progress.ts";
import type { HubSettings } from "./settings.ts";
import { SharedCalls } from "./shared-calls.ts";

export interface Download {
  readonly repo: string;
  readonly commit: string;
  readonly file: HubFile;
  /** Where the finished file goes. */
  readonly to: string;
  readonly onProgress: OnProgress;
  /** Before the second attempt; each further one waits twice as long. */
  readonly pauseMs: number;
}

/** Attempts in a row that bring no byte. */
const MAX_ATTEMPTS = 5;
/** A connection without a byte for this long is given up, and a new one made. */
const STALL_TIMEOUT_MS = 60_000;

const calls = new SharedCalls<void>();

/** Throws `download_failed` and what `requestFile` throws; what has come so far stays for the next call. */
export async function download(settings: HubSettings, wanted: Download): Promise<void> {
  await calls.share(wanted.to, () => downloadAlone(settings, wanted));
}

async function downloadAlone(settings: HubSettings, wanted: Download): Promise<void> {
  const folder = dirname(wanted.to);
  await mkdir(folder, { recursive: true });
  const path = await takeOverPart(wanted.to);
  const part = await PartFile.open(path, wanted.file);
  const resumed = part.size > 0;
  try {
    await checkRoom(folder, wanted.file.size - part.size, wanted);
    await fetchAll(settings, wanted, part);
  } finally {
    await part.close();
  }
  const got = part.hex();
  if (got === wanted.file.digest.hex) {
    await rename(path, wanted.to);
    return;
  }
  await rm(path, { force: true });
  // What an earlier process left may be at fault: once more, from the beginning.
  if (resumed) return await downloadAlone(settings, wanted);
  throw failed(
    wanted,
    `the checksum of what came is ${got}, it should be ${wanted.file.digest.hex}`,
    {
      hint: "try again; a proxy may have changed the file",
    },
  );
}

/** The part file of this process, begun with what a dead one left where there is such a file. */
async function takeOverPart(to: string): Promise<string> {
  const folder = dirname(to);
  const own = join(folder, ownName(basename(to), "incomplete"));
  const left = await findAbandoned(folder, basename(to), "incomplete");
  if (left.includes(own)) return own;
  for (const path of left) {
    try {
      await rename(path, own);
      return own;
    } catch (error) {
      // Another process was faster with this one.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return own;
}

async function checkRoom(folder: string, bytes: number, wanted: Download): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytes) return;
  throw failed(wanted, `needs ${bytes} bytes, but ${folder} has room for ${bavail * bsize}`, {
    hint: "make room, or set HF_HUB_CACHE to a folder that has it",
  });
}

/** Fills the part file, over as many connections as it takes. */
async function fetchAll(settings: HubSettings, wanted: Download, part: PartFile): Promise<void> {
  const { size } = wanted.file;
  let attempts = 0;
  let cause: unknown;
  while (part.size !== size) {
    if (part.size > size) await part.restart();
    if (attempts === MAX_ATTEMPTS) {
      const why = cause instanceof Error ? `: ${cause.message}` : "";
      throw failed(
        wanted,
        `cut off at byte ${part.size} of ${size}, ${attempts} attempts brought nothing${why}`,
        {
          hint: "try again: it goes on from there",
          cause,
        },
      );
    }
    if (attempts > 0) await Bun.sleep(wanted.pauseMs * 2 ** (attempts - 1));
    const before = part.size;
    cause = await fetchSome(settings, wanted, part);
    attempts = part.size > before ? 0 : attempts + 1;
  }
}

/** One connection. Answers why it ended early, where another one may do better; throws where none will. */
async function fetchSome(
  settings: HubSettings,
  wanted: Download,
  part: PartFile,
): Promise<unknown> {
  const { repo, commit, file, onProgress } = wanted;
  const stalled = new AbortController();
  const timer = setTimeout(
    () => stalled.abort(new Error("the connection stalled")),
    STALL_TIMEOUT_MS,
  );
  try {
    const response = await requestFile(settings, {
      repo,
      commit,
      path: file.path,
      from: part.size,
      signal: stalled.signal,
    });
    const refused = await checkAnswer(response, part);
    if (refused !== undefined) {
      await response.body?.cancel();
      return refused;
    }
    const reader = read(response);
    for (;;) {
      const chunk = await reader();
      if (!(chunk instanceof Uint8Array)) return chunk;
      timer.refresh();
      await part.append(chunk);
      onProgress({ label: basename(file.path), done: part.size, total: file.size });
      if (part.size > file.size) return new Error("the server sends more than the file has");
    }
  } catch (error) {
    if (error instanceof KvEngineError && error.code === "download_failed") return error;
    throw error;
  } finally {
    clearTimeout(timer);
    stalled.abort();
  }
}

/** Whether the body goes on from the end of the part file, which begins anew where the server will have it so. */
async function checkAnswer(response: Response, part: PartFile): Promise<Error | undefined> {
  const { status } = response;
  if (status === 206 && startOf(response) === part.size) return undefined;
  if (status === 200 || status === 206 || status === 416) await part.restart();
  return status === 200 ? undefined : new Error(`the server answers ${status}`);
}

/** The body chunk by chunk; at its end undefined, or why it was cut. */
function read(response: Response): () => Promise<Uint8Array | Error | undefined> {
  const reader = response.body?.getReader();
  return async () => {
    try {
      return (await reader?.read())?.value;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  };
}

/** First byte of a partial answer. */
function startOf(response: Response): number {
  return Number(
    /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1] ?? Number.NaN,
  );
}

/** A file that grows, and the checksum of what is in it. */
class PartFile {
  size = 0;
  readonly #handle: FileHandle;
  readonly #file: HubFile;
  #digest: FileDigest;

  private constructor(handle: FileHandle, file: HubFile) {
    this.#handle = handle;
    this.#file = file;
    this.#digest = new FileDigest(file);
  }

  static async open(path: string, file: HubFile): Promise<PartFile> {
    const part = new PartFile(await open(path, "a"), file);
    await part.#digest.updateFrom(path);
    part.size = (await part.#handle.stat()).size;
    return part;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#handle.appendFile(bytes);
    this.#digest.update(bytes);
    this.size += bytes.length;
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#digest = new FileDigest(this.#file);
    this.size = 0;
  }

  async close(): Promise<void> {
    await this.#handle.sync();
    await this.#handle.close();
  }

  hex(): string {
    return this.#digest.hex();
  }
}

function failed(
  wanted: Download,
  problem: string,
  details: { readonly hint: string; readonly cause?: unknown },
): KvEngineError {
  const subject = `${wanted.repo}/${wanted.file.path}`;
  return new KvEngineError("download_failed", `${subject}: ${problem}`, { subject, ...details });
}
