/**
 * Sessions' files on their way to and from clients: the engine's threads write and read a temporary one, which is streamed. No more of it is
 * in memory than a chunk for each client, however slow one is.
 */

import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvEngineError, messageOf } from "../../errors.ts";

/** Of an answer that is a file: its bytes, so that whoever reads it knows whether it is whole. */
export const SIZE_HEADER = "x-kvengine-file-bytes";

/** Bytes that are read at a time. */
const CHUNK = 256 * 1024;

/** Of a file, what is used to send it, and to receive one. */
export interface ReadFile {
  read(
    buffer: Uint8Array,
    offset: number,
    length: number,
    at: number,
  ): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}
export interface WrittenFile {
  write(
    chunk: Uint8Array,
    offset: number,
    length: number,
    at: number,
  ): Promise<{ readonly bytesWritten: number }>;
}

export interface TemporaryFile {
  readonly handle: FileHandle;
  /** By which other threads of this process find it. */
  readonly path: string;
}

/** Runs `body` with an empty file of its own that is gone afterwards. */
export async function withFile<T>(body: (file: TemporaryFile) => Promise<T>): Promise<T> {
  const file = await newFile();
  try {
    return await body(file);
  } finally {
    await file.handle.close();
  }
}

/** Answers with the file that `write` makes. It is gone when it was sent, or its reader has left. */
export async function sendFile(write: (path: string) => Promise<void>): Promise<Response> {
  const { handle, path } = await newFile();
  try {
    await write(path);
    const { size } = await handle.stat();
    // A stream has no content-length.
    const headers = { "content-type": "application/octet-stream", [SIZE_HEADER]: `${size}` };
    return new Response(streamOf(handle), { headers });
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}

/** The bytes of a file, read as they are asked for; then it is closed. */
export function streamOf(file: ReadFile): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller): Promise<void> {
        try {
          const buffer = new Uint8Array(CHUNK);
          const { bytesRead } = await file.read(buffer, 0, CHUNK, at);
          at += bytesRead;
          if (bytesRead > 0) return controller.enqueue(buffer.subarray(0, bytesRead));
        } catch (thrown) {
          await file.close();
          throw thrown;
        }
        await file.close();
        controller.close();
      },
      cancel: () => file.close(),
    },
    // Nothing is read before the socket asks for it.
    { highWaterMark: 0 },
  );
}

/** Writes a request's body to a file. Throws `payload_too_large` beyond `most` bytes, as soon as that is known. */
export async function receiveFile(
  request: Request,
  file: WrittenFile,
  most: number,
): Promise<void> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > most) throw tooLarge(most);
  let size = 0;
  try {
    for await (const chunk of request.body ?? []) {
      if (size + chunk.byteLength > most) throw tooLarge(most);
      await writeAt(file, chunk, size);
      size += chunk.byteLength;
    }
  } catch (cause) {
    if (cause instanceof KvEngineError) throw cause;
    throw new KvEngineError("invalid_request", "the file ended before it was complete", { cause });
  }
}

async function writeAt(file: WrittenFile, chunk: Uint8Array, at: number): Promise<void> {
  try {
    for (let done = 0; done < chunk.byteLength;) {
      const left = chunk.byteLength - done;
      done += (await file.write(chunk, done, left, at + done)).bytesWritten;
    }
  } catch (cause) {
    throw new KvEngineError("unavailable", `the file cannot be kept here: ${messageOf(cause)}`, {
      hint: `see that there is room in ${tmpdir()}`,
      cause,
    });
  }
}

/** Nobody but this process can name it, and it ends with the process, however that ends. */
async function newFile(): Promise<TemporaryFile> {
  const folder = await mkdtemp(join(tmpdir(), "kvengine-session-"));
  const handle = await open(join(folder, "session"), "wx+", 0o600);
  await rm(folder, { recursive: true });
  return { handle, path: `/proc/self/fd/${handle.fd}` };
}

function tooLarge(most: number): KvEngineError {
  return new KvEngineError(
    "payload_too_large",
    `the file has more than ${most} bytes, which is more than this server may keep`,
    { hint: "start it with a larger --kv-offload-size, --kv-pin-budget or --kv-disk-size" },
  );
}
