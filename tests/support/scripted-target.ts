/** A target on a virtual clock that answers each request by a script, and remembers what was asked of it. */

import type { OutgoingRequest, Send } from "../../cli/bench/load/send.ts";
import type { Chunk, Clock, RequestRecord } from "../../cli/bench/types.ts";

export interface ScriptedAnswer {
  /** From the request to the first chunk, and from each chunk to the next. */
  readonly firstMs: number;
  readonly gapMs: number;
  /** Instead of an answer. */
  readonly fails?: "unreachable" | "refused";
}

/** @param running requests under way, this one counted. */
export type Script = (request: OutgoingRequest, running: number) => ScriptedAnswer;

export class ScriptedTarget {
  readonly asked: OutgoingRequest[] = [];
  readonly askedAt: number[] = [];
  running = 0;
  mostRunning = 0;
  readonly #clock: Clock;
  readonly #script: Script;

  constructor(clock: Clock, script: Script) {
    this.#clock = clock;
    this.#script = script;
  }

  readonly send: Send = async (request, context) => {
    this.asked.push(request);
    const sentAt = context.now();
    this.askedAt.push(sentAt);
    this.running++;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    const answer = this.#script(request, this.running);
    const chunks: Chunk[] = [];
    while (chunks.length < request.maxTokens && !context.signal.aborted) {
      await this.#clock.sleep(chunks.length === 0 ? answer.firstMs : answer.gapMs, context.signal);
      if (context.signal.aborted || answer.fails !== undefined) break;
      chunks.push({ at: context.now(), numTokens: 1 });
      if (chunks.length === 1) context.onFirstChunk();
    }
    this.running--;
    const error = answer.fails ?? (context.signal.aborted ? String(context.signal.reason) : "");
    const record: RequestRecord = {
      conversation: request.conversation,
      turn: request.turn,
      sentAt,
      chunks,
      endedAt: context.now(),
      promptTokens: request.numPromptTokens ?? 0,
      outputTokens: chunks.length,
      countedBy: "usage",
      status: answer.fails === "unreachable" ? 0 : answer.fails === "refused" ? 503 : 200,
      outcome: error === "" ? "ok" : chunks.length > 0 ? "cut" : "error",
      ...(error === "" ? {} : { error }),
      text: "",
    };
    return { record, ...(answer.fails === "unreachable" ? { unreachable: true as const } : {}) };
  };
}
