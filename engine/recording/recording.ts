/** `kvengine serve --record`: between the HTTP side and the engine, a line for each request that has ended. */

import { randomUUID } from "node:crypto";
import type { EngineClient } from "../engine-client.ts";
import type { KvEngineError } from "../errors.ts";
import { hashBlocks, noneHash } from "../runner/native.ts";
import { RecordingClient } from "./recording-client.ts";
import type { TraceFile } from "./trace-file.ts";
import { traceLine, type TraceFormat } from "./trace-line.ts";
import { type RecordingCounts, TraceWriter } from "./trace-writer.ts";

export interface Recording {
  /** To be used in place of the engine's own client. */
  readonly client: EngineClient;
  readonly counts: RecordingCounts;
  /** Writes what waits and closes the file. */
  close(): Promise<void>;
}

export interface RecordingOptions {
  /** The text of tokens: given when contents are to be recorded, else lines hold hashes only. */
  readonly decode?: ((ids: Iterable<number>) => string) | undefined;
  /** Told of the first line that was lost. */
  readonly onTrouble: (error: KvEngineError) => void;
}

export function startRecording(
  client: EngineClient,
  file: TraceFile,
  { decode, onTrouble }: RecordingOptions,
): Recording {
  const format: TraceFormat = {
    blockSize: client.info.blockSize,
    hashBlocks,
    noneHash: noneHash(randomUUID()),
    ...(decode === undefined ? {} : { decode }),
  };
  const writer = new TraceWriter(
    file,
    (finished) => JSON.stringify(traceLine(finished, format)),
    onTrouble,
  );
  return {
    client: new RecordingClient(client, writer),
    get counts() {
      return writer.counts;
    },
    close: () => writer.close(),
  };
}
