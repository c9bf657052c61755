import { describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type AppendableFile,
  openTraceFile,
  type TraceFile,
  traceFile,
} from "../../../engine/recording/trace-file.ts";
import type { FinishedRequest } from "../../../engine/recording/trace-line.ts";
import { MAX_WAITING_TOKENS, TraceWriter } from "../../../engine/recording/trace-writer.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const folder = temporaryFolder();

function finished(id: string, numTokens = 4): FinishedRequest {
  return {
    request: {
      id,
      promptTokenIds: new Int32Array(numTokens),
      sampling: DEFAULT_SAMPLING,
      arrivalTime: 0,
      priority: 0,
    },
    outputIds: [],
    outputLength: 0,
    cachedTokens: 0,
    finish: "stop",
    firstTokenMs: undefined,
    durationMs: 0,
  };
}

/** A disk that takes writes when it is told to, or fails them. */
class FakeDisk implements TraceFile {
  readonly path = "fake.jsonl";
  readonly written: string[] = [];
  closed = false;
  /** Thrown by writes while it is set. */
  failure: Error | undefined;
  /** Writes wait while it is set. */
  held: Promise<void> | undefined;

  async append(text: string): Promise<void> {
    await this.held;
    if (this.failure !== undefined) throw this.failure;
    this.written.push(text);
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

/** A file that takes a few bytes at a time, as long as there is room. */
class SmallDisk implements AppendableFile {
  content = "";
  canTruncate = true;
  readonly #room: number;

  constructor(room: number) {
    this.#room = room;
  }

  async write(bytes: Uint8Array, offset: number): Promise<{ readonly bytesWritten: number }> {
    const part = bytes.subarray(offset, offset + Math.min(4, this.#room - this.content.length));
    if (part.length === 0) throw new Error("no space left");
    this.content += new TextDecoder().decode(part);
    return { bytesWritten: part.length };
  }

  async truncate(length: number): Promise<void> {
    if (!this.canTruncate) throw new Error("no");
    this.content = this.content.slice(0, length);
  }

  async close(): Promise<void> {}
}

function failureOf(call: Promise<void>): Promise<string> {
  return call.then(
    () => "nothing was thrown",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

function writerOf(disk: TraceFile): { writer: TraceWriter; troubles: KvEngineError[] } {
  const troubles: KvEngineError[] = [];
  const lineOf = ({ request }: FinishedRequest): string => {
    if (request.id === "bad") throw new Error("cannot be made");
    return request.id;
  };
  return { writer: new TraceWriter(disk, lineOf, (error) => troubles.push(error)), troubles };
}

describe("a trace writer", () => {
  test("writes a line for each request, in order, many in a write", async () => {
    const disk = new FakeDisk();
    const { writer } = writerOf(disk);
    for (let i = 0; i < 500; i++) writer.add(finished(`line ${i}`));
    expect(disk.written).toEqual([]);
    await writer.close();
    const expected = Array.from({ length: 500 }, (_, i) => `line ${i}\n`).join("");
    expect(disk.written.join("")).toBe(expected);
    expect(disk.written.length).toBeLessThan(10);
    expect([writer.counts, disk.closed]).toEqual([{ written: 500, lost: 0 }, true]);
  });

  test("goes on after it was idle", async () => {
    const disk = new FakeDisk();
    const { writer } = writerOf(disk);
    writer.add(finished("one"));
    while (writer.counts.written < 1) await new Promise((resolve) => setImmediate(resolve));
    writer.add(finished("two"));
    await writer.close();
    expect(disk.written).toEqual(["one\n", "two\n"]);
  });

  test("loses what a full disk does not take, counts it, and says so once", async () => {
    const disk = new FakeDisk();
    const { writer, troubles } = writerOf(disk);
    disk.failure = new Error("ENOSPC: no space left on device");
    for (let i = 0; i < 3; i++) {
      writer.add(finished(`line ${i}`));
      while (writer.counts.lost < i + 1) await new Promise((resolve) => setImmediate(resolve));
    }
    disk.failure = undefined;
    writer.add(finished("there is room again"));
    await writer.close();
    expect(disk.written).toEqual(["there is room again\n"]);
    expect(writer.counts).toEqual({ written: 1, lost: 3 });
    expect(troubles).toHaveLength(1);
    expect(troubles[0]!.message).toBe(
      "requests are missing in the trace fake.jsonl: ENOSPC: no space left on device",
    );
    expect(troubles[0]!.subject).toBe("--record");
  });

  test("holds no more than a bound while the disk is slow", async () => {
    const disk = new FakeDisk();
    const { promise, resolve } = Promise.withResolvers<void>();
    disk.held = promise;
    const { writer, troubles } = writerOf(disk);
    const half = MAX_WAITING_TOKENS / 2;
    for (const [id, tokens] of [
      ["a", half],
      ["b", half],
      ["c", 1],
    ] as const)
      writer.add(finished(id, tokens));
    expect(writer.counts.lost).toBe(1);
    expect(troubles[0]!.message).toContain("more slowly");
    resolve();
    await writer.close();
    expect(disk.written.join("")).toBe("a\nb\n");
  });

  test("writes a request beyond the bound when nothing else waits", async () => {
    const disk = new FakeDisk();
    const { writer } = writerOf(disk);
    writer.add(finished("large", MAX_WAITING_TOKENS + 1));
    writer.add(finished("next"));
    await writer.close();
    expect([disk.written, writer.counts.lost]).toEqual([["large\n"], 1]);
  });

  test("loses a line that cannot be made, and no other", async () => {
    const disk = new FakeDisk();
    const { writer, troubles } = writerOf(disk);
    for (const id of ["a", "bad", "b"]) writer.add(finished(id));
    await writer.close();
    expect(disk.written.join("")).toBe("a\nb\n");
    expect(troubles.map(({ message }) => message)).toEqual([
      "requests are missing in the trace fake.jsonl: a line could not be made",
    ]);
  });

  test("counts what ends after it was closed", async () => {
    const { writer, troubles } = writerOf(new FakeDisk());
    await writer.close();
    writer.add(finished("late"));
    expect([writer.counts.lost, troubles.length]).toEqual([1, 1]);
  });
});

describe("a trace file", () => {
  test("is its owner's, and lines are added to what is there", async () => {
    const path = join(folder, "trace.jsonl");
    for (const line of ["one\n", "two\n"]) {
      const file = await openTraceFile(path);
      await file.append(line);
      await file.close();
    }
    expect(await Bun.file(path).text()).toBe("one\ntwo\n");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  test("that cannot be written is refused before anything is served", async () => {
    for (const path of [folder, join(folder, "no", "folder.jsonl")]) {
      const error = await thrownBy(() => openTraceFile(path));
      expect([error.code, error.subject]).toEqual(["bad_config", "--record"]);
      expect(error.message).toBe(`the trace ${path} cannot be written`);
    }
  });

  test("takes back what was written of lines that did not fit, so that the next ones are whole", async () => {
    const disk = new SmallDisk(10);
    const file = traceFile("small.jsonl", disk, 0);
    await file.append("12345\n");
    expect(await failureOf(file.append("abcdefgh\n"))).toBe("no space left");
    expect(disk.content).toBe("12345\n");
    await file.append("ab\n");
    expect(disk.content).toBe("12345\nab\n");
  });

  test("says so where that fails, too", async () => {
    const disk = new SmallDisk(10);
    disk.canTruncate = false;
    const file = traceFile("small.jsonl", disk, 0);
    expect(await failureOf(file.append("abcdefghijkl\n"))).toContain("could not be taken back");
  });

  test("on a disk without room rejects, and the writer goes on", async () => {
    const { writer, troubles } = writerOf(await openTraceFile("/dev/full"));
    writer.add(finished("one"));
    while (writer.counts.lost < 1) await new Promise((resolve) => setImmediate(resolve));
    writer.add(finished("two"));
    await writer.close();
    expect(writer.counts).toEqual({ written: 0, lost: 2 });
    expect(troubles.map(({ message }) => message)).toEqual([expect.stringContaining("ENOSPC")]);
  });
});
