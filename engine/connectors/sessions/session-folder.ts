/**
 * The records of frozen sessions in the disk tier's folder, a file each: what is in it after a restart is known again. The folder is this
 * process's alone, or only read, as the disk tier found it. A record that cannot be written costs nothing but the name after a restart.
 */

import { open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KvEngineError, messageOf } from "../../errors.ts";
import type { LogLine } from "../connector-log.ts";
import { damaged } from "./sealed-head.ts";
import {
  encodeRecord,
  isPartName,
  isRecordName,
  partOf,
  readRecord,
  recordName,
  type RecordReader,
  type SessionRecord,
  writeWhole,
} from "./session-record.ts";

/** What a file takes on a disk is a multiple of it. */
const DISK_BLOCK = 4096;
/** Of the disk tier's size, what the records may take. */
const SHARE: number = 1 / 256;
/** Tokens of a session whose record is written. */
const MOST_TOKENS: number = 2 ** 20;

export interface SessionFolderOptions extends Omit<RecordReader, "now"> {
  readonly path: string;
  /** Nothing is made, written or deleted. */
  readonly isReadOnly: boolean;
  /** Most bytes on the disk of all records together, and most records: those of other models go first. */
  readonly maxBytes: number;
  readonly maxRecords: number;
  /** Milliseconds since the epoch. */
  readonly epochMs: () => number;
  readonly log: LogLine;
}

interface Entry {
  /** Bytes that it takes on the disk. */
  readonly bytes: number;
  readonly isOwn: boolean;
  readonly endsAt: number;
}

export class SessionFolder {
  readonly #options: SessionFolderOptions;
  /** By the names of their files. */
  readonly #entries = new Map<string, Entry>();
  #found: SessionRecord[] = [];
  /** Of the folder that was opened: one that was deleted may have been made anew by another process. */
  #identity: string | undefined;
  /** Files are written and deleted one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: SessionFolderOptions) {
    this.#options = options;
  }

  /** Reads what the folder holds, which the disk tier has opened. What is damaged, over or too much is deleted. */
  static async open(options: SessionFolderOptions): Promise<SessionFolder> {
    const folder = new SessionFolder(options);
    try {
      await folder.#read();
    } catch (thrown) {
      folder.#warn(`they cannot be read: ${messageOf(thrown)}`);
    }
    return folder;
  }

  /** This model's records that there were at the start, those that end first before others. */
  get found(): readonly SessionRecord[] {
    return this.#found;
  }

  /** Bytes that the records take on the disk. */
  get bytes(): number {
    let sum = 0;
    for (const { bytes } of this.#entries.values()) sum += bytes;
    return sum;
  }

  /** Whether the session will be known after a restart. */
  has(session: Pick<SessionRecord, "owner" | "name">): boolean {
    return this.#entries.has(recordName(this.#options.model, session));
  }

  /** Writes a record in the place of the session's last one. What hinders it is logged; the last one stays then. */
  put(record: SessionRecord): Promise<void> {
    return this.#queue(async () => {
      if (this.#options.isReadOnly) return;
      const file = recordName(this.#options.model, record);
      try {
        await this.#put(file, record);
      } catch (thrown) {
        this.#warn(
          `the record of ${JSON.stringify(record.name)} cannot be written, and after a restart it is known as before: ${messageOf(thrown)}`,
        );
      }
    });
  }

  /** Deletes a session's record, if there is one. */
  remove(session: Pick<SessionRecord, "owner" | "name">): Promise<void> {
    const file = recordName(this.#options.model, session);
    return this.#queue(async () => {
      if (this.#entries.has(file)) await this.#delete(file);
    });
  }

  async #read(): Promise<void> {
    const { path } = this.#options;
    this.#identity = await identityOf(path);
    const unusable: string[] = [];
    for (const file of await readdir(path)) {
      if (isPartName(file)) await this.#delete(file);
      if (!isRecordName(file)) continue;
      try {
        await this.#readOne(file);
      } catch (thrown) {
        // Of a folder that is only read, whoever writes it may have deleted it meanwhile.
        if (isGone(thrown)) continue;
        unusable.push(messageOf(thrown));
        // What cannot be read now may be another time.
        if (thrown instanceof KvEngineError) await this.#delete(file);
      }
    }
    if (unusable.length > 0) this.#warn(`${unusable.length} cannot be used: ${unusable[0]}`);
    await this.#fit(0, 0);
    this.#found = this.#found.filter((record) => this.has(record)).sort(byEnd);
  }

  async #readOne(file: string): Promise<void> {
    const { path, model, blockSize, vocabSize, epochMs } = this.#options;
    const now = epochMs();
    const read = await readRecord(join(path, file), { model, blockSize, vocabSize, now });
    const { record, bytes } = read;
    if (recordName(read.model, record) !== file) throw damaged("it has another session's name");
    const isOwn = read.model === model;
    this.#entries.set(file, { bytes: onDisk(bytes), isOwn, endsAt: record.endsAt });
    if (record.endsAt <= now) await this.#delete(file);
    else if (isOwn) this.#found.push(record);
  }

  async #put(file: string, record: SessionRecord): Promise<void> {
    const { path, model, maxBytes } = this.#options;
    if (record.tokenIds.length > MOST_TOKENS)
      throw new KvEngineError("invalid_request", `it has more than ${MOST_TOKENS} tokens`);
    if ((await identityOf(path)) !== this.#identity)
      throw new KvEngineError("unavailable", "the folder was deleted while it was in use");
    const encoded = encodeRecord(model, record);
    const bytes = onDisk(encoded.length);
    // Until the new one has taken its place, there are both.
    if (!(await this.#fit(bytes, this.#entries.has(file) ? 0 : 1)))
      throw new KvEngineError(
        "unavailable",
        `the records of frozen sessions have no room left in the ${maxBytes} bytes that they may take`,
      );
    const part = join(path, partOf(file));
    await rm(part, { force: true });
    try {
      await writeWhole(part, encoded);
      await rename(part, join(path, file));
    } catch (thrown) {
      await rm(part, { force: true });
      throw thrown;
    }
    this.#entries.set(file, { bytes, isOwn: true, endsAt: record.endsAt });
    await syncFolder(path);
  }

  /**
   * Makes room for so many more bytes and records: other models' go, those that end first before others, and at the start (when nothing
   * is to be added) our own too. Answers whether there is room.
   */
  async #fit(bytes: number, records: number): Promise<boolean> {
    const { maxBytes, maxRecords } = this.#options;
    const isEnough = (): boolean =>
      this.bytes + bytes <= maxBytes && this.#entries.size + records <= maxRecords;
    const inTurn = [...this.#entries].sort(
      ([, a], [, b]) => Number(a.isOwn) - Number(b.isOwn) || byEnd(a, b),
    );
    for (const [file, { isOwn }] of inTurn) {
      if (isEnough() || (isOwn && bytes > 0)) break;
      await this.#delete(file);
    }
    return isEnough();
  }

  async #delete(file: string): Promise<void> {
    const { path, isReadOnly } = this.#options;
    this.#entries.delete(file);
    if (isReadOnly || (await identityOf(path)) !== this.#identity) return;
    try {
      await rm(join(path, file), { force: true });
    } catch (thrown) {
      this.#warn(`${file} cannot be deleted: ${messageOf(thrown)}`);
    }
  }

  #queue(task: () => Promise<void>): Promise<void> {
    const done = this.#last.then(task);
    this.#last = done;
    return done;
  }

  #warn(message: string): void {
    this.#options.log("warn", `frozen sessions in ${this.#options.path}: ${message}`);
  }
}

function byEnd(a: { readonly endsAt: number }, b: { readonly endsAt: number }): number {
  return a.endsAt - b.endsAt;
}

function isGone(thrown: unknown): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT";
}

function onDisk(bytes: number): number {
  return Math.ceil(bytes / DISK_BLOCK) * DISK_BLOCK;
}

async function identityOf(folder: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(folder);
    return `${dev}:${ino}`;
  } catch {
    // Gone: nothing in it is ours.
    return undefined;
  }
}

/** What was renamed in it outlives a power cut. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Of the bytes that a disk tier may take, those that are set aside for records. */
export function roomForRecords(sizeBytes: number): number {
  return Math.floor((sizeBytes * SHARE) / DISK_BLOCK) * DISK_BLOCK;
}
