/** The load itself: begins conversations when they are due and there is room, and keeps what became of every request. */

import type {
  Answer,
  Clock,
  Conversation,
  LoadPlan,
  RequestRecord,
  Turn,
  Workload,
} from "../types.ts";
import { arrivals } from "./arrivals.ts";
import { concurrencyLimit, nextGrowth, type Standing } from "./concurrency.ts";
import type { SaturationMonitor } from "./saturation.ts";
import type { Send } from "./send.ts";

export interface LoadOptions {
  readonly clock: Clock;
  readonly send: Send;
  /** Ends the run at once; what is there is kept. */
  readonly signal?: AbortSignal | undefined;
  /** Ends the run when the target cannot keep up. */
  readonly saturation?: SaturationMonitor | undefined;
  readonly onSent?: () => void;
  readonly onRecord?: (record: RequestRecord) => void;
}

export interface LoadResult {
  /** One for each request that was sent, in the order in which they were. */
  readonly records: readonly RequestRecord[];
  readonly durationMs: number;
  /** As in `Run`. */
  readonly stopped?: string;
}

/** Requests in a row that reached nothing: the target is gone. */
const MAX_UNREACHABLE = 3;

/** Runs a workload to its end, or to what stops it before. Rejects for bugs only. */
export function runLoad(
  workload: Pick<Workload, "conversations">,
  plan: LoadPlan,
  options: LoadOptions,
): Promise<LoadResult> {
  return new LoadRun(plan, options).run(workload.conversations);
}

class LoadRun {
  readonly #plan: LoadPlan;
  readonly #options: LoadOptions;
  readonly #start: number;
  readonly #records: RequestRecord[] = [];
  readonly #ends: Promise<void>[] = [];
  /** Aborts what is in flight. */
  readonly #halt = new AbortController();
  /** Ends the wait for the next conversation's time or room. */
  #wake = new AbortController();
  #runningConversations = 0;
  #runningRequests = 0;
  #unreachable = 0;
  #stopped: string | undefined;
  #bug: { readonly thrown: unknown } | undefined;

  constructor(plan: LoadPlan, options: LoadOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#start = options.clock.now();
  }

  async run(conversations: readonly Conversation[]): Promise<LoadResult> {
    const { signal } = this.#options;
    const interrupt = (): void => this.#haltFor("interrupted");
    if (signal?.aborted === true) interrupt();
    signal?.addEventListener("abort", interrupt, { once: true });
    try {
      const queue = arrivals(conversations, this.#plan);
      for (const [begun, { conversation, due }] of queue.entries()) {
        if (!(await this.#mayBegin(due, begun, queue.length))) break;
        this.#begin(conversation);
        // Many that are due at once must not keep the client from seeing when the first ones' answers come.
        await this.#options.clock.sleep(0);
      }
      await Promise.all(this.#ends);
    } finally {
      signal?.removeEventListener("abort", interrupt);
    }
    if (this.#bug !== undefined) throw this.#bug.thrown;
    return {
      records: this.#records.toSorted((a, b) => a.sentAt - b.sentAt),
      durationMs: this.#now(),
      ...(this.#stopped === undefined ? {} : { stopped: this.#stopped }),
    };
  }

  #now(): number {
    return this.#options.clock.now() - this.#start;
  }

  /** Waits until a conversation is due and there is room for it. False = no more may begin. */
  async #mayBegin(due: number, begun: number, total: number): Promise<boolean> {
    const { durationMs } = this.#plan;
    for (;;) {
      if (this.#halt.signal.aborted) return false;
      const now = this.#now();
      const standing: Standing = { now, begun, total };
      const room = this.#runningConversations < concurrencyLimit(this.#plan, standing);
      if (now >= due && now <= durationMs && room) return true;
      if (now >= durationMs) {
        this.#stopped ??= "duration";
        return false;
      }
      const next = now < due ? due : nextGrowth(this.#plan, standing);
      this.#wake = new AbortController();
      await this.#options.clock.sleep(Math.min(next, durationMs) - now, this.#wake.signal);
    }
  }

  #begin(conversation: Conversation): void {
    this.#runningConversations++;
    const end = this.#converse(conversation)
      .catch((thrown: unknown) => {
        this.#bug ??= { thrown };
        this.#haltFor("interrupted");
      })
      .finally(() => {
        this.#runningConversations--;
        this.#wake.abort();
      });
    this.#ends.push(end);
  }

  /** Its turns one after the other. A turn that fails is the last: the next one would build on an answer that is not there. */
  async #converse({ id, turns }: Conversation): Promise<void> {
    const answers: Answer[] = [];
    for (const [index, turn] of turns.entries()) {
      if (!(await this.#think(index === 0 ? 0 : turn.thinkTimeMs))) return;
      const answer = await this.#request(id, index, turn, answers);
      if (answer === undefined) return;
      answers.push(answer);
    }
  }

  /** False = the next turn may not be sent. */
  async #think(ms: number): Promise<boolean> {
    if (this.#now() + ms > this.#plan.durationMs) {
      this.#stopped ??= "duration";
      return false;
    }
    if (ms > 0) await this.#options.clock.sleep(ms, this.#halt.signal);
    return !this.#halt.signal.aborted;
  }

  async #request(
    conversation: string,
    index: number,
    turn: Turn,
    before: readonly Answer[],
  ): Promise<Answer | undefined> {
    const { send, onSent, onRecord, saturation } = this.#options;
    const prompt = turn.prompt(before);
    const sentAt = this.#now();
    this.#runningRequests++;
    saturation?.sent(sentAt, this.#runningRequests);
    onSent?.();
    const { record, tokenIds, unreachable } = await send(
      {
        conversation,
        turn: index,
        prompt,
        maxTokens: turn.maxTokens,
        ignoreEos: turn.ignoreEos,
        ...(turn.numPromptTokens === undefined ? {} : { numPromptTokens: turn.numPromptTokens }),
      },
      {
        now: () => this.#now(),
        signal: this.#halt.signal,
        onFirstChunk: () => this.#firstChunk(sentAt),
      },
    ).finally(() => this.#runningRequests--);
    this.#records.push(record);
    onRecord?.(record);
    this.#unreachable = unreachable === true ? this.#unreachable + 1 : 0;
    if (this.#unreachable === MAX_UNREACHABLE) this.#haltFor("unreachable");
    if (record.outcome !== "ok") return undefined;
    return { text: record.text, ...(tokenIds === undefined ? {} : { tokenIds }) };
  }

  #firstChunk(sentAt: number): void {
    const { saturation } = this.#options;
    const now = this.#now();
    saturation?.firstChunk(now, now - sentAt);
    if (saturation?.saturated(now) === true) this.#haltFor("over-saturation");
  }

  #haltFor(reason: string): void {
    if (this.#halt.signal.aborted) return;
    this.#stopped = reason;
    this.#halt.abort(reason);
    this.#wake.abort();
  }
}
