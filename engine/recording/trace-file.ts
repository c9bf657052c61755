/** The file of a recorded trace. Lines are added to what is there: a server that starts again goes on. */

import { type FileHandle, open } from "node:fs/promises";
import { KvEngineError } from "../errors.ts";

export interface TraceFile {
  readonly path: string;
  /** Adds whole lines, or rejects and has added none. One call at a time. */
  append(text: string): Promise<void>;
  close(): Promise<void>;
}

/** Of a file that is open for appending. */
export type AppendableFile = Pick<FileHandle, "truncate" | "close"> & {
  write(bytes: Uint8Array, offset: number): Promise<{ readonly bytesWritten: number }>;
};

/** Rejects with `bad_config` where the file cannot be written. It is readable for its owner only. */
export async function openTraceFile(path: string): Promise<TraceFile> {
  try {
    const file = await open(path, "a", 0o600);
    return traceFile(path, file, (await file.stat()).size);
  } catch (cause) {
    throw new KvEngineError("bad_config", `the trace ${path} cannot be written`, {
      subject: "--record",
      cause,
    });
  }
}

/** `bytes`: what is in the file already. */
export function traceFile(path: string, file: AppendableFile, bytes: number): TraceFile {
  let size = bytes;
  return {
    path,
    async append(text): Promise<void> {
      const lines = new TextEncoder().encode(text);
      let done = 0;
      try {
        while (done < lines.length) done += (await file.write(lines, done)).bytesWritten;
        size += done;
      } catch (error) {
        // A part of a line would spoil the next one.
        if (done > 0) await truncate(file, size, error);
        throw error;
      }
    },
    close: () => file.close(),
  };
}

async function truncate(file: AppendableFile, size: number, because: unknown): Promise<void> {
  try {
    await file.truncate(size);
  } catch (error) {
    throw new AggregateError(
      [because, error],
      "a line was written in part and could not be taken back",
      { cause: error },
    );
  }
}
