/** The engine's verbs on the HTTP side. Owns the Worker, knows none of its objects. */

import { Asked, AskedJobs } from "./asked.ts";
import type { EngineConfig } from "./config.ts";
import type { LogLine } from "./connectors/connector-log.ts";
import { hangError, HangWatchdog } from "./connectors/hang-watchdog.ts";
import type { PinAnswer, PinQuery } from "./connectors/pin-query.ts";
import type { SessionAnswer, SessionQuery } from "./connectors/sessions/session-query.ts";
import { createHookWord } from "./connectors/hook-turn.ts";
import { namedConnectors } from "./connectors/named-connectors.ts";
import type { FromEngine, ToEngine } from "./engine-messages.ts";
import type { EngineClient, Observe, PrefixCacheReset } from "./engine-verbs.ts";
import { epochMs } from "./epoch.ts";
import { type ErrorData, errorFromData, errorToData, KvEngineError } from "./errors.ts";
import type { ExplainQuery, PromptFacts } from "./explain/facts.ts";
import type { GrammarAnswer } from "./grammars.ts";
import { MAX_AHEAD, weightOf } from "./read-ahead.ts";
import type {
  EngineInfo,
  EngineStats,
  GenerateRequest,
  GrammarSource,
  TokenEvent,
} from "./request.ts";
import type { StepsProfile } from "./runner/profile.ts";
import { checkRequest, type RequestLimits } from "./request-limits.ts";
import { eachEvent, failureOf } from "./token-events.ts";
import { withOwnPrompt } from "./own-prompt.ts";
import { type TokenSource, TokenStream } from "./token-stream.ts";
import { UntoldReaders } from "./untold-readers.ts";

export type { EngineClient, Observe, PrefixCacheReset, TokenSource };

/** Starts the engine in a Worker. Throws what the model file, the options, the connectors or the memory forbid. */
export async function createEngineClient(
  config: EngineConfig,
  log?: LogLine,
): Promise<EngineClient> {
  // Inside a compiled executable every module has the executable's address, and entry points lie at their own path.
  const entry = Bun.isStandaloneExecutable ? "./engine/engine-worker.js" : "./engine-worker.ts";
  return connectEngine(new Worker(new URL(entry, import.meta.url)), config, log);
}

/** Speaks to a Worker that runs an `EngineHost`. `log` takes what connectors say and what is said of them. */
export async function connectEngine(
  worker: Worker,
  config: EngineConfig,
  log: LogLine = (): void => {},
): Promise<EngineClient> {
  const client = new WorkerEngineClient(worker, config, log);
  await client.start(config);
  return client;
}

interface LiveRequest {
  readonly request: GenerateRequest;
  readonly stream: TokenStream;
  readonly observe: Observe | undefined;
}

class WorkerEngineClient implements EngineClient {
  readonly #worker: Worker;
  readonly #log: LogLine;
  readonly #hookWord = createHookWord();
  /** Where there are connectors. */
  readonly #watchdog: HangWatchdog | undefined;
  readonly #live = new Map<number, LiveRequest>();
  readonly #handles = new Map<string, number>();
  readonly #untold = new UntoldReaders(() => this.#goOn());
  /** Weight of the messages that were taken and that the engine has not heard of. */
  #taken = 0;
  readonly #onFatal: ((error: KvEngineError) => void)[] = [];
  readonly #onStats: ((stats: EngineStats) => void)[] = [];
  readonly #resets = new Asked<number>();
  readonly #explanations = new Asked<PromptFacts | undefined>();
  readonly #pins = new Asked<PinAnswer>();
  readonly #ready: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #ended: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #profiles = new Asked<StepsProfile>();
  readonly #moves = new AskedJobs<SessionAnswer>();
  readonly #grammars = new AskedJobs<GrammarAnswer>();
  readonly #asked: readonly Pick<Asked<unknown>, "length" | "refuseAll">[] = [
    ...[this.#resets, this.#explanations, this.#pins, this.#profiles, this.#moves, this.#grammars],
  ];
  #onIdle: (() => void) | undefined;
  #info: EngineInfo | undefined;
  #limits: RequestLimits | undefined;
  #stats: EngineStats | undefined;
  #fatal: KvEngineError | undefined;
  #stopping = false;
  #stopped = false;
  #nextHandle = 1;

  constructor(worker: Worker, config: EngineConfig, log: LogLine) {
    this.#worker = worker;
    this.#log = log;
    if (namedConnectors(config).length > 0) this.#watchdog = this.#createWatchdog(config);
    worker.addEventListener("message", (event: MessageEvent<FromEngine>) =>
      this.#receive(event.data),
    );
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#die({ code: "internal", message: `the engine's thread failed: ${event.message}` });
    });
    worker.addEventListener("close", () =>
      this.#die({ code: "internal", message: "the engine's thread ended" }),
    );
  }

  async start(config: EngineConfig): Promise<void> {
    this.#post({ type: "start", config, hookWord: this.#hookWord });
    await this.#ready.promise;
  }

  get info(): EngineInfo {
    if (this.#info === undefined)
      throw new KvEngineError("unavailable", "the engine has not started");
    return this.#info;
  }

  get limits(): RequestLimits {
    if (this.#limits === undefined)
      throw new KvEngineError("unavailable", "the engine has not started");
    return this.#limits;
  }

  onStats(callback: (stats: EngineStats) => void): void {
    this.#onStats.push(callback);
  }

  stats(): EngineStats {
    if (this.#stats === undefined)
      throw new KvEngineError("unavailable", "the engine has not started");
    return this.#stats;
  }

  generate(request: GenerateRequest, observe?: Observe): TokenSource {
    this.#checkAlive();
    if (this.#stopping || this.#limits === undefined) {
      throw new KvEngineError("unavailable", "the engine takes no requests", {
        subject: request.id,
      });
    }
    checkRequest(request, this.#limits);
    if (this.#handles.has(request.id)) {
      throw new KvEngineError("invalid_request", `a request with id ${request.id} is running`, {
        subject: "id",
      });
    }
    const handle = this.#nextHandle++;
    const stream = new TokenStream(() => this.#abandon(handle));
    this.#live.set(handle, { request, stream, observe });
    this.#handles.set(request.id, handle);
    this.#post({ type: "add", handle, request: withOwnPrompt(request) });
    return stream;
  }

  async compileGrammar(source: GrammarSource): Promise<GrammarAnswer> {
    this.#checkAlive();
    const { job, answer } = this.#grammars.next();
    this.#post({ type: "compileGrammar", job, source });
    return answer;
  }

  abort(id: string): void {
    const handle = this.#handles.get(id);
    if (handle !== undefined) this.#post({ type: "abort", handle });
  }

  async resetPrefixCache({ resetExternal = true }: PrefixCacheReset = {}): Promise<number> {
    return this.#ask(this.#resets, { type: "resetPrefixCache", resetExternal });
  }

  async explain(query: ExplainQuery): Promise<PromptFacts | undefined> {
    return this.#ask(this.#explanations, { type: "explain", query });
  }

  async pin(query: PinQuery): Promise<PinAnswer> {
    return this.#ask(this.#pins, { type: "pin", query });
  }

  async session(query: SessionQuery): Promise<SessionAnswer> {
    this.#checkAlive();
    const { job, answer } = this.#moves.next();
    this.#post({ type: "session", job, query });
    return answer;
  }

  async takeProfile(on: boolean): Promise<StepsProfile> {
    return this.#ask(this.#profiles, { type: "takeProfile", on });
  }

  async shutdown(timeoutMs: number): Promise<void> {
    if (this.#stopping || this.#fatal !== undefined) return this.#ended.promise;
    this.#stopping = true;
    if (this.#live.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onIdle = resolve;
      const timer = setTimeout(resolve, timeoutMs);
      await promise;
      clearTimeout(timer);
    }
    this.#post({ type: "stop" });
    await this.#ended.promise;
  }

  onFatal(callback: (error: KvEngineError) => void): void {
    const fatal = this.#fatal;
    if (fatal === undefined) this.#onFatal.push(callback);
    else callback(fatal);
  }

  #ask<T>(asked: Asked<T>, question: ToEngine): Promise<T> {
    this.#checkAlive();
    const answer = asked.next();
    this.#post(question);
    return answer;
  }

  #checkAlive(): void {
    if (this.#fatal !== undefined) {
      const { message } = this.#fatal;
      throw new KvEngineError("unavailable", `the engine has stopped: ${message}`, {
        cause: this.#fatal,
      });
    }
    if (this.#stopped) throw new KvEngineError("unavailable", "the engine has stopped");
  }

  #createWatchdog(config: EngineConfig): HangWatchdog {
    return new HangWatchdog({
      word: this.#hookWord,
      timeoutMs: config.kvConnectorHangTimeout * 1000,
      isAwaited: () => this.#isAwaited(),
      ping: () => {
        // To load a model takes its time.
        if (this.#info === undefined) return false;
        this.#worker.postMessage({ type: "ping" } satisfies ToEngine);
        return true;
      },
      onHang: (hang) => this.#die(hangError(hang, config)),
    });
  }

  /** Whether the engine owes anybody anything. */
  #isAwaited(): boolean {
    if (this.#fatal !== undefined || this.#stopped) return false;
    const isStarting = this.#info === undefined;
    const isAsked = this.#asked.some(({ length }) => length > 0);
    return isStarting || this.#stopping || this.#live.size > 0 || isAsked;
  }

  #post(message: ToEngine): void {
    this.#watchdog?.watch();
    this.#worker.postMessage(message);
  }

  #receive(message: FromEngine): void {
    this.#watchdog?.heard();
    switch (message.type) {
      case "ready":
        this.#info = message.info;
        this.#limits = message.limits;
        this.#stats = message.stats;
        this.#ready.resolve();
        break;
      case "events":
        this.#stats = message.stats;
        for (const callback of this.#onStats) callback(message.stats);
        eachEvent(message.events, (handle, event) => this.#push(handle, message.at, event));
        this.#taken += weightOf(message.events);
        this.#untold.tellSoon();
        break;
      case "grammarCompiled":
        if ("code" in message.answer)
          this.#grammars.refuse(message.job, errorFromData(message.answer));
        else this.#grammars.answer(message.job, message.answer);
        break;
      case "prefixCacheReset":
        this.#resets.answer(message.generation);
        break;
      case "explained":
        this.#explanations.answer(message.facts);
        break;
      case "pinned":
        if ("code" in message.answer) this.#pins.refuse(errorFromData(message.answer));
        else this.#pins.answer(message.answer);
        break;
      case "moved":
        if ("code" in message.answer)
          this.#moves.refuse(message.job, errorFromData(message.answer));
        else this.#moves.answer(message.job, message.answer);
        break;
      case "profile":
        this.#profiles.answer(message.profile);
        break;
      case "refused":
        this.#fail(message.handle, message.error);
        this.#untold.tellSoon();
        break;
      case "log":
        this.#log(message.level, message.message);
        break;
      case "pong":
        break;
      case "stopped":
        this.#end();
        break;
      case "fatal":
        this.#die(message.error);
        break;
    }
  }

  /** Events of a request that its reader has left are dropped. */
  #push(handle: number, at: number, event: TokenEvent): void {
    const live = this.#live.get(handle);
    if (live === undefined) return;
    live.observe?.(event, at);
    if (event.finish !== undefined) this.#forget(handle, live);
    live.stream.push(event);
    this.#untold.add(live.stream);
  }

  /** Lets the engine go on where it may be waiting: sockets have had their turn. */
  #goOn(): void {
    if (this.#taken < MAX_AHEAD / 2 || this.#fatal !== undefined || this.#stopped) return;
    this.#worker.postMessage({ type: "taken", weight: this.#taken } satisfies ToEngine);
    this.#taken = 0;
  }

  #fail(handle: number, error: ErrorData): void {
    this.#push(handle, epochMs(), failureOf(this.#live.get(handle)?.request, error));
  }

  #abandon(handle: number): void {
    const live = this.#live.get(handle);
    if (live === undefined) return;
    this.#forget(handle, live);
    if (this.#fatal === undefined) this.#post({ type: "abort", handle });
  }

  #forget(handle: number, { request }: LiveRequest): void {
    this.#live.delete(handle);
    this.#handles.delete(request.id);
    if (this.#live.size === 0) this.#onIdle?.();
  }

  /** After `stopped`: the thread has nothing left to do. */
  #end(): void {
    const error = errorToData(new KvEngineError("unavailable", "the engine has stopped"));
    for (const handle of this.#live.keys()) this.#fail(handle, error);
    this.#untold.tell();
    this.#rejectAsked(errorFromData(error));
    this.#stopped = true;
    this.#worker.terminate();
    this.#ended.resolve();
  }

  /** Who waits for an answer that does not come any more. */
  #rejectAsked(error: KvEngineError): void {
    for (const asked of this.#asked) asked.refuseAll(error);
  }

  #die(data: ErrorData): void {
    if (this.#fatal !== undefined || this.#stopped) return;
    const error = errorFromData(data);
    this.#fatal = error;
    for (const handle of this.#live.keys()) this.#fail(handle, data);
    // Before anybody who hears of the end cuts the connections.
    this.#untold.tell();
    this.#rejectAsked(error);
    this.#worker.terminate();
    this.#ready.reject(error);
    this.#ended.resolve();
    for (const callback of this.#onFatal) callback(error);
  }
}
