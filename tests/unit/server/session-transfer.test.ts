/** Sessions' files are streamed: however large one is and however slow a client, a few chunks of it are in memory. Counted, not timed. */

import { describe, expect, test } from "bun:test";
import {
  type ReadFile,
  receiveFile,
  streamOf,
  type WrittenFile,
} from "../../../engine/server/sessions/session-transfer.ts";

const MIB = 2 ** 20;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Until a number stays as it is for a thousand turns of the event loop: everything has gone that will. */
async function still(read: () => number): Promise<number> {
  let last = -1;
  for (let turns = 0; turns < 1000; turns++) {
    if (read() !== last) turns = 0;
    last = read();
    await turn();
  }
  return last;
}

/** A file of 4 GiB that is nowhere. */
class HugeFile implements ReadFile {
  numRead = 0;
  isClosed = false;

  async read(_: Uint8Array, _offset: number, length: number, at: number) {
    const bytesRead = Math.max(0, Math.min(length, 4096 * MIB - at));
    this.numRead += bytesRead;
    return { bytesRead };
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

describe("a file that is sent", () => {
  test("is read as its reader asks for it, and no further", async () => {
    const file = new HugeFile();
    const reader = streamOf(file).getReader();
    expect(file.numRead).toBe(0);
    let taken = 0;
    while (taken < 16 * MIB) {
      const { value } = await reader.read();
      taken += value?.byteLength ?? 0;
      expect(file.numRead).toBe(taken);
    }
    await reader.cancel();
    expect(file.isClosed).toBe(true);
  });

  test("waits for a client that does not read, on a real socket", async () => {
    const file = new HugeFile();
    const server = Bun.serve({
      port: 0,
      idleTimeout: 0,
      fetch: () => new Response(streamOf(file)),
    });
    const begun = Promise.withResolvers<void>();
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: server.port ?? 0,
      socket: {
        data(socket): void {
          socket.pause();
          begun.resolve();
        },
      },
    });
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await begun.promise;
    // What both sockets hold, and a few chunks.
    expect(await still(() => file.numRead)).toBeLessThan(64 * MIB);
    client.terminate();
    await server.stop(true);
  });
});

/** Chunks that are made as they are asked for, each filled with its number. */
class MadeBody {
  numMade = 0;
  readonly request: Request;

  constructor(bytes: number, count: number) {
    const body = new ReadableStream<Uint8Array>(
      {
        pull: (controller): void => {
          if (this.numMade === count) return controller.close();
          this.numMade++;
          controller.enqueue(new Uint8Array(bytes).fill(this.numMade));
        },
      },
      { highWaterMark: 0 },
    );
    this.request = new Request("http://x/", { method: "POST", body });
  }
}

describe("a file that is received", () => {
  test("is written chunk by chunk, in pieces where the system takes less", async () => {
    const { request } = new MadeBody(1000, 50);
    const written = new Uint8Array(50_000);
    let [numWaiting, mostWaiting] = [0, 0];
    const file: WrittenFile = {
      async write(chunk, offset, length, at) {
        mostWaiting = Math.max(mostWaiting, ++numWaiting);
        await turn();
        const bytesWritten = Math.min(length, 300);
        written.set(chunk.subarray(offset, offset + bytesWritten), at);
        numWaiting--;
        return { bytesWritten };
      },
    };
    await receiveFile(request, file, 50_000);
    expect(mostWaiting).toBe(1);
    const expected = Uint8Array.from({ length: 50_000 }, (_, i) => 1 + Math.floor(i / 1000));
    expect(written).toEqual(expected);
  });

  test("is taken from a client no faster than it is written, on a real socket", async () => {
    const total = 256 * MIB;
    const mayWrite = Promise.withResolvers<void>();
    let [sent, written, answer] = [0, 0, ""];
    const file: WrittenFile = {
      async write(_, _offset, length) {
        await mayWrite.promise;
        written += length;
        return { bytesWritten: length };
      },
    };
    const server = Bun.serve({
      ...{ port: 0, idleTimeout: 0, maxRequestBodySize: total },
      async fetch(request): Promise<Response> {
        await receiveFile(request, file, total);
        return new Response("all of it");
      },
    });
    const piece = new Uint8Array(MIB);
    const send = (socket: Bun.Socket): void => {
      while (sent < total) {
        const some = piece.subarray(0, Math.min(MIB, total - sent));
        const taken = Math.max(0, socket.write(some));
        sent += taken;
        if (taken < some.length) return;
      }
    };
    const answered = Promise.withResolvers<void>();
    const client = await Bun.connect({
      ...{ hostname: "127.0.0.1", port: server.port ?? 0 },
      socket: {
        open(socket): void {
          socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${total}\r\n\r\n`);
          send(socket);
        },
        drain: send,
        data(_, bytes): void {
          answer += bytes.toString();
          if (answer.endsWith("all of it")) answered.resolve();
        },
      },
    });
    // What both sockets hold, and a few chunks.
    expect(await still(() => sent)).toBeLessThan(64 * MIB);
    mayWrite.resolve();
    await answered.promise;
    expect(written).toBe(total);
    client.terminate();
    await server.stop(true);
  });

  test("is refused at the chunk that is too much, and the rest is not asked for", async () => {
    const made = new MadeBody(1000, 1000);
    let kept = 0;
    const file: WrittenFile = {
      async write(_, _offset, length) {
        kept += length;
        return { bytesWritten: length };
      },
    };
    const received = receiveFile(made.request, file, 3500);
    await expect(received).rejects.toMatchObject({ code: "payload_too_large" });
    expect(kept).toBe(3000);
    expect(made.numMade).toBeLessThan(10);
  });

  test("is kept nowhere where there is no room, which is no fault of the client's", async () => {
    const { request } = new MadeBody(10, 1);
    const file: WrittenFile = { write: () => Promise.reject(new Error("no space left on device")) };
    await expect(receiveFile(request, file, 100)).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("no space left"),
    });
  });
});
