/**
 * An engine client that computes nothing. Every sequence answers by a script, at once or when the test says so, and what
 * was asked of it is recorded.
 */

import type { PinAnswer, PinQuery } from "../../engine/connectors/pin-query.ts";
import type {
  SessionAnswer,
  SessionQuery,
} from "../../engine/connectors/sessions/session-query.ts";
import type { EngineClient, Observe, PrefixCacheReset } from "../../engine/engine-client.ts";
import { epochMs } from "../../engine/epoch.ts";
import { KvEngineError } from "../../engine/errors.ts";
import type { ExplainQuery, PromptFacts } from "../../engine/explain/facts.ts";
import type { GrammarAnswer } from "../../engine/grammars.ts";
import type { StepsProfile } from "../../engine/runner/profile.ts";
import type {
  EngineInfo,
  EngineStats,
  GenerateRequest,
  GrammarSource,
  Timing,
  TokenEvent,
  Usage,
} from "../../engine/request.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import { TokenStream } from "../../engine/token-stream.ts";
import { BYTE_VOCAB_SIZE } from "./byte-tokenizer.ts";

/** The events of a sequence; the last must have `finish`. */
export type Script = (request: GenerateRequest) => readonly TokenEvent[];

/** `text` as bytes, one event a byte, then the end; `length` where max_tokens comes first, as the engine would do it. */
export function say(
  text: string,
  {
    eosId,
    cachedTokens = 0,
    timing = NO_TIMING,
  }: { eosId?: number; cachedTokens?: number; timing?: Timing } = {},
): Script {
  return (request) => {
    const { maxTokens, stop, stopTokenIds } = request.sampling;
    let bytes = [...new TextEncoder().encode(text)];
    const ends = stop.map((one) => [text.indexOf(one), one] as const).filter(([at]) => at >= 0);
    const end = ends.sort(([a, one], [b, two]) => a + one.length - (b + two.length))[0];
    if (end !== undefined)
      bytes = [...new TextEncoder().encode(text.slice(0, end[0] + end[1].length))];
    const stopId = bytes.findIndex((id) => stopTokenIds.includes(id));
    if (stopId >= 0) bytes = bytes.slice(0, stopId);
    const cut =
      bytes.length > maxTokens || (bytes.length === maxTokens && stopId < 0 && end === undefined);
    bytes = bytes.slice(0, maxTokens);
    const events: TokenEvent[] = bytes.map((id, i) => ({
      tokenIds: [id],
      logprobs: [-(i + 1) / 8],
    }));
    const stopReason = cut
      ? undefined
      : (end?.[1] ?? (stopId >= 0 ? [...new TextEncoder().encode(text)][stopId] : eosId));
    const usage = {
      promptTokens: request.promptTokenIds.length,
      completionTokens: bytes.length + (cut || end !== undefined ? 0 : 1),
      cachedTokens,
    };
    const last = events.pop() ?? { tokenIds: [], logprobs: [] };
    const finish = {
      reason: cut ? "length" : "stop",
      usage,
      timing,
      ...(stopReason === undefined ? {} : { stopReason }),
    } as const;
    return [...events, { ...last, finish }];
  };
}

export const NO_USAGE: Usage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
export const NO_TIMING: Timing = { queued: 0, prefill: 0, decode: 0 };
export const NO_STATS: EngineStats = {
  running: 0,
  waiting: 0,
  usedBlocks: 0,
  totalBlocks: 0,
  preemptions: 0,
  promptTokens: 0,
  generationTokens: 0,
  steps: 0,
  prefixQueries: 0,
  prefixHits: 0,
  externalQueries: 0,
  externalHits: 0,
  loadedPromptTokens: {},
  savedMs: 0,
  evictedBlocks: 0,
  drafts: 0,
  draftTokens: 0,
  acceptedTokens: 0,
  stepTokens: [],
};

class FakeSequence extends TokenStream {
  readonly request: GenerateRequest;
  /** The reader left before the end. */
  returned = false;
  /** Events that nobody has taken yet. */
  untaken = 0;
  readonly #observe: Observe | undefined;

  constructor(request: GenerateRequest, observe: Observe | undefined, onLeave: () => void) {
    super(() => {
      this.returned = true;
      onLeave();
    });
    this.request = request;
    this.#observe = observe;
  }

  send(...events: readonly TokenEvent[]): void {
    this.sendAt(epochMs(), ...events);
  }

  /** Events that the engine had at this time. */
  sendAt(at: number, ...events: readonly TokenEvent[]): void {
    for (const event of events) {
      if (!this.returned) this.#observe?.(event, at);
      this.push(event);
    }
    this.untaken += events.length;
    this.tell();
  }

  sendText(text: string): void {
    for (const id of new TextEncoder().encode(text))
      this.send({ tokenIds: [id], logprobs: [-0.5] });
  }

  override take(): TokenEvent | undefined {
    const event = super.take();
    if (event !== undefined) this.untaken--;
    return event;
  }
}

export type { FakeSequence };

export class FakeEngineClient implements EngineClient {
  info: EngineInfo = {
    modelName: "tiny",
    maxModelLen: 200,
    vocabSize: BYTE_VOCAB_SIZE,
    blockSize: 16,
    numBlocks: 64,
    enablePrefixCaching: true,
    schedulingPolicy: "fcfs",
    backend: "fake/none",
    threads: 1,
    weightBytes: 0,
    activationBytes: 0,
    kvBytes: 0,
    kvCacheDtype: "",
    pageLayout: "",
  };
  currentStats: EngineStats = { ...NO_STATS, totalBlocks: 64 };
  /** What each profile is. */
  profile: StepsProfile = { steps: 0, seconds: 0, gaps: 0, ops: [] };
  /** What sequences answer by; `undefined` = nothing until the test sends it. */
  script: Script | undefined = say("Hello");
  readonly sequences: FakeSequence[] = [];
  readonly aborted: string[] = [];
  /** Times that the prefix cache was reset. */
  resets = 0;
  readonly externalResets: boolean[] = [];
  readonly #onStats: ((stats: EngineStats) => void)[] = [];
  readonly #fatal: ((error: KvEngineError) => void)[] = [];
  readonly #arrivals: (() => void)[] = [];
  readonly #aborts: (() => void)[] = [];

  get limits(): RequestLimits {
    const { maxModelLen, vocabSize, blockSize, numBlocks } = this.info;
    const groups = [{ kind: "full", window: 0 }] as const;
    return { maxModelLen, vocabSize, blockSize, numBlocks, groups, maxInFlightTokens: 1024 };
  }

  stats(): EngineStats {
    return this.currentStats;
  }

  onStats(callback: (stats: EngineStats) => void): void {
    this.#onStats.push(callback);
  }

  /** A message of the engine with these numbers. */
  report(stats: Partial<EngineStats>): void {
    this.currentStats = { ...this.currentStats, ...stats };
    for (const callback of this.#onStats) callback(this.currentStats);
  }

  /** Grammars that were compiled. */
  readonly grammars: GrammarSource[] = [];
  /** What the next ones are refused with. */
  grammarError: KvEngineError | undefined;
  grammarWarnings: readonly string[] = [];

  compileGrammar(source: GrammarSource): Promise<GrammarAnswer> {
    this.grammars.push(source);
    if (this.grammarError !== undefined) return Promise.reject(this.grammarError);
    return Promise.resolve({ key: source.text, warnings: this.grammarWarnings });
  }

  resetPrefixCache({ resetExternal = true }: PrefixCacheReset = {}): Promise<number> {
    this.externalResets.push(resetExternal);
    this.resets++;
    return Promise.resolve(this.resets);
  }

  /** What each explanation is made of. */
  facts: (query: ExplainQuery) => PromptFacts | undefined = () => undefined;

  explain(query: ExplainQuery): Promise<PromptFacts | undefined> {
    return Promise.resolve(this.facts(query));
  }

  /** What pins are answered with. */
  pinned: (query: PinQuery) => PinAnswer = () => ({ pins: [], budget: 0, used: 0 });

  moved: (query: SessionQuery) => SessionAnswer | Promise<SessionAnswer> = () => ({
    sessions: [],
    mostBytes: 1 << 20,
  });

  async session(query: SessionQuery): Promise<SessionAnswer> {
    return this.moved(query);
  }

  async pin(query: PinQuery): Promise<PinAnswer> {
    return this.pinned(query);
  }

  takeProfile(): Promise<StepsProfile> {
    return Promise.resolve(this.profile);
  }

  generate(request: GenerateRequest, observe?: Observe): FakeSequence {
    if (this.sequences.some((one) => one.request.id === request.id))
      throw new Error(`the id ${request.id} is not unique`);
    const events = this.script?.(request) ?? [];
    const sequence = new FakeSequence(request, observe, () => this.abort(request.id));
    this.sequences.push(sequence);
    sequence.send(...events);
    for (const tell of this.#arrivals.splice(0)) tell();
    return sequence;
  }

  abort(id: string): void {
    this.aborted.push(id);
    for (const tell of this.#aborts.splice(0)) tell();
  }

  shutdown(): Promise<void> {
    return Promise.resolve();
  }

  onFatal(callback: (error: KvEngineError) => void): void {
    this.#fatal.push(callback);
  }

  die(message: string): void {
    for (const callback of this.#fatal) callback(new KvEngineError("internal", message));
  }

  /** Once `count` sequences have been started in all. */
  async arrived(count: number): Promise<readonly FakeSequence[]> {
    while (this.sequences.length < count)
      await new Promise<void>((resolve) => this.#arrivals.push(resolve));
    return this.sequences;
  }

  /** Once `count` aborts have come in all. */
  async abortsArrived(count: number): Promise<void> {
    while (this.aborted.length < count)
      await new Promise<void>((resolve) => this.#aborts.push(resolve));
  }
}
