/**
 * Finished requests → lines of a file, in the background: a request is never late or failed for it. What the file does not take, and
 * what comes faster than it takes, is dropped, counted and reported once.
 */

import { KvEngineError, messageOf } from "../errors.ts";
import type { TraceFile } from "./trace-file.ts";
import type { FinishedRequest } from "./trace-line.ts";

/** Tokens of requests that wait to be written, beyond which more are dropped: 64 MiB at most. */
export const MAX_WAITING_TOKENS: number = 8 * 1024 * 1024;
/** Characters of one write. */
const WRITE_LENGTH = 64 * 1024;

export interface RecordingCounts {
  readonly written: number;
  readonly lost: number;
}

export class TraceWriter {
  readonly #file: TraceFile;
  readonly #lineOf: (finished: FinishedRequest) => string;
  readonly #onTrouble: (error: KvEngineError) => void;
  readonly #waiting: FinishedRequest[] = [];
  #waitingTokens = 0;
  #pump: Promise<void> | undefined;
  #written = 0;
  #lost = 0;
  #closed = false;

  /** `lineOf`: without a line feed. `onTrouble` is told of the first line that was lost. */
  constructor(
    file: TraceFile,
    lineOf: (finished: FinishedRequest) => string,
    onTrouble: (error: KvEngineError) => void,
  ) {
    this.#file = file;
    this.#lineOf = lineOf;
    this.#onTrouble = onTrouble;
  }

  get counts(): RecordingCounts {
    return { written: this.#written, lost: this.#lost };
  }

  /** Never throws. */
  add(finished: FinishedRequest): void {
    const tokens = tokensOf(finished);
    if (this.#closed) return this.#lose(1, "the recording has ended");
    // One that is too large alone is written when nothing else waits.
    if (this.#waitingTokens > 0 && this.#waitingTokens + tokens > MAX_WAITING_TOKENS)
      return this.#lose(1, "the file takes lines more slowly than requests end");
    this.#waitingTokens += tokens;
    this.#waiting.push(finished);
    this.#pump ??= this.#writeAll();
  }

  /** Writes what waits; what comes later is lost. */
  async close(): Promise<void> {
    await this.#pump;
    this.#closed = true;
    await this.#file.close();
  }

  async #writeAll(): Promise<void> {
    await nextTurn();
    while (this.#waiting.length > 0) {
      const lines: string[] = [];
      for (let length = 0; length < WRITE_LENGTH && this.#waiting.length > 0;) {
        const line = this.#nextLine();
        if (line !== undefined) lines.push(line);
        length += line?.length ?? 0;
        // Hashing a long prompt takes a moment: others go in between.
        await nextTurn();
      }
      await this.#append(lines);
    }
    this.#pump = undefined;
  }

  #nextLine(): string | undefined {
    const finished = this.#waiting.shift();
    if (finished === undefined) return undefined;
    this.#waitingTokens -= tokensOf(finished);
    try {
      return this.#lineOf(finished);
    } catch (cause) {
      this.#lose(1, "a line could not be made", cause);
      return undefined;
    }
  }

  async #append(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    try {
      await this.#file.append(lines.map((line) => `${line}\n`).join(""));
      this.#written += lines.length;
    } catch (cause) {
      this.#lose(lines.length, messageOf(cause), cause);
    }
  }

  #lose(count: number, reason: string, cause?: unknown): void {
    this.#lost += count;
    if (this.#lost > count) return;
    this.#onTrouble(
      new KvEngineError(
        "internal",
        `requests are missing in the trace ${this.#file.path}: ${reason}`,
        {
          subject: "--record",
          hint: "requests are served on; /metrics counts those that are missing",
          ...(cause === undefined ? {} : { cause }),
        },
      ),
    );
  }
}

function tokensOf({ request, outputIds }: FinishedRequest): number {
  return request.promptTokenIds.length + outputIds.length;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
