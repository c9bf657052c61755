/** Sessions' files on their way to and from clients: the engine's threads write and read a temporary one, which is streamed. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvEngineError } from "../../errors.ts";

/** Of an answer that is a file: its bytes, so that whoever reads it knows whether it is whole. */
export const SIZE_HEADER = "x-kvengine-file-bytes";

/** Runs `body` with the path of a file that there is not yet, in a folder of its own that is gone afterwards. */
export async function withFile<T>(body: (path: string) => Promise<T>): Promise<T> {
  const folder = await newFolder();
  try {
    return await body(join(folder, "session"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Answers with the file that `write` makes. It is gone when it was sent, or its reader has left. */
export async function sendFile(write: (path: string) => Promise<void>): Promise<Response> {
  const folder = await newFolder();
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, "session");
    await write(path);
    const file = Bun.file(path);
    const { size } = file;
    const reader = file.stream().getReader();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller): Promise<void> {
        const { value } = await reader.read();
        if (value !== undefined) return controller.enqueue(value);
        await remove();
        controller.close();
      },
      async cancel(): Promise<void> {
        await reader.cancel();
        await remove();
      },
    });
    // A stream has no content-length.
    const headers = { "content-type": "application/octet-stream", [SIZE_HEADER]: `${size}` };
    return new Response(body, { headers });
  } catch (thrown) {
    await remove();
    throw thrown;
  }
}

/** Writes a request's body to a file. Throws `payload_too_large` beyond `most` bytes, as soon as that is known. */
export async function receiveFile(request: Request, path: string, most: number): Promise<void> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > most) throw tooLarge(most);
  const sink = Bun.file(path).writer();
  let size = 0;
  try {
    for await (const chunk of request.body ?? []) {
      size += chunk.byteLength;
      if (size > most) throw tooLarge(most);
      await sink.write(chunk);
      await sink.flush();
    }
  } catch (cause) {
    if (cause instanceof KvEngineError) throw cause;
    throw new KvEngineError("invalid_request", "the file ended before it was complete", { cause });
  } finally {
    await sink.end();
  }
}

function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "kvengine-session-"));
}

function tooLarge(most: number): KvEngineError {
  return new KvEngineError(
    "payload_too_large",
    `the file has more than ${most} bytes, which is more than this server may keep`,
    { hint: "start it with a larger --kv-offload-size, --kv-pin-budget or --kv-disk-size" },
  );
}
