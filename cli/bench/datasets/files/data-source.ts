/** A data file, read in pieces: its size is no reason to run out of memory. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { KvEngineError } from "../../../../engine/errors.ts";

export interface DataSource {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes `from` and on, `length` of them or as many as there are. */
  read(from: number, length: number): Uint8Array;
  close(): void;
}

/** Throws `bad_config` for what is no readable file. */
export function openDataFile(path: string): DataSource {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new KvEngineError("bad_config", `the data file ${path} cannot be read`, {
      subject: "--dataset-path",
      cause,
    });
  }
  const stat = fstatSync(file);
  if (!stat.isFile()) {
    closeSync(file);
    throw new KvEngineError("bad_config", `${path} is not a file`, {
      subject: "--dataset-path",
      hint: "pipes cannot be read: write what they bring to a file first",
    });
  }
  return {
    name: path,
    size: stat.size,
    read(from, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const count = readSync(file, bytes, done, length - done, from + done);
        if (count === 0) break;
        done += count;
      }
      return bytes.subarray(0, done);
    },
    close: () => closeSync(file),
  };
}
