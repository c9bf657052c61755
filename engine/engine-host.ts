/** The engine's end of the messages: turns them into calls of an `Engine` and its events into messages. */

import type { PageTransfers } from "./cache/page-transfers.ts";
import type { EngineConfig } from "./config.ts";
import type { ConnectorHost } from "./connectors/connector-host.ts";
import type { PinAnswer, PinQuery } from "./connectors/pin-query.ts";
import type { Pins } from "./connectors/pins.ts";
import type { SessionAnswer, SessionQuery } from "./connectors/sessions/session-query.ts";
import type { Sessions } from "./connectors/sessions/sessions.ts";
import { Engine } from "./engine.ts";
import type { FromEngine, ToEngine } from "./engine-messages.ts";
import { epochMs } from "./epoch.ts";
import { type ErrorData, errorToData, KvEngineError, toKvEngineError } from "./errors.ts";
import type { Explainer } from "./explain/explainer.ts";
import type { GrammarAnswer, Grammars } from "./grammars.ts";
import { ReadAhead, weightOf } from "./read-ahead.ts";
import type { EngineInfo, GenerateRequest, GrammarSource } from "./request.ts";
import type { ModelRunner } from "./runner/model-runner.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";

/** What an engine is made of, ready to serve. */
export interface EngineParts {
  readonly scheduler: Scheduler;
  readonly runner: ModelRunner;
  readonly info: EngineInfo;
  readonly connectors?: ConnectorHost;
  /** Moves the connectors' pages; stopped before the runner. */
  readonly transfers?: Pick<PageTransfers, "stop">;
  /** Unless nothing is to be remembered. */
  readonly explainer?: Pick<Explainer, "explain">;
  /** Unless nothing can be compiled. */
  readonly grammars?: Grammars;
  /** Where connectors keep pages. */
  readonly pins?: Pick<Pins, "answer">;
  readonly sessions?: Pick<Sessions, "answer">;
}

/** `hookWord`: see `connectors/hook-turn.ts`. */
export type StartEngine = (
  config: EngineConfig,
  hookWord: SharedArrayBuffer,
) => Promise<EngineParts>;

export class EngineHost {
  readonly #post: (message: FromEngine) => void;
  readonly #start: StartEngine;
  readonly #readAhead = new ReadAhead();
  #engine: Engine | undefined;
  #explainer: EngineParts["explainer"];
  #pins: EngineParts["pins"];
  #sessions: EngineParts["sessions"];
  #grammars: EngineParts["grammars"];
  #stopped = false;

  constructor(post: (message: FromEngine) => void, start: StartEngine) {
    this.#post = post;
    this.#start = start;
  }

  /** Something that requests wait for has happened outside of the engine. */
  news(): void {
    this.#engine?.news();
  }

  receive(message: ToEngine): void {
    switch (message.type) {
      case "start":
        void this.#serve(message.config, message.hookWord);
        break;
      case "add":
        try {
          this.#running().add(message.handle, this.#withGrammar(message.request));
        } catch (thrown) {
          this.#post({
            type: "refused",
            handle: message.handle,
            error: errorToData(toKvEngineError(thrown)),
          });
        }
        break;
      case "abort":
        this.#engine?.abort(message.handle);
        break;
      case "taken":
        this.#readAhead.taken(message.weight);
        break;
      case "compileGrammar":
        void this.#compileGrammar(message.job, message.source);
        break;
      case "ping":
        this.#post({ type: "pong" });
        break;
      case "resetPrefixCache":
        this.#post({
          type: "prefixCacheReset",
          generation: this.#running().resetPrefixCache(message.resetExternal),
        });
        break;
      case "explain":
        this.#post({ type: "explained", facts: this.#explainer?.explain(message.query) });
        break;
      case "pin":
        this.#post({ type: "pinned", answer: this.#pin(message.query) });
        break;
      case "session":
        void this.#move(message.job, message.query);
        break;
      case "takeProfile":
        void this.#takeProfile(message.on);
        break;
      case "stop":
        void this.#stop();
        break;
    }
  }

  async #serve(config: EngineConfig, hookWord: SharedArrayBuffer): Promise<void> {
    try {
      const parts = await this.#start(config, hookWord);
      const { scheduler, runner, info, connectors, transfers } = parts;
      this.#explainer = parts.explainer;
      this.#pins = parts.pins;
      this.#sessions = parts.sessions;
      this.#grammars = parts.grammars;
      const engine = new Engine(
        scheduler,
        runner,
        (events, stats) => {
          this.#readAhead.sent(weightOf(events));
          this.#post({ type: "events", events, stats, at: epochMs() });
        },
        { connectors, transfers, readAhead: this.#readAhead },
      );
      this.#engine = engine;
      this.#post({ type: "ready", info, limits: scheduler.limits, stats: engine.takeStats() });
      await engine.run();
    } catch (thrown) {
      if (!this.#stopped)
        this.#post({ type: "fatal", error: errorToData(toKvEngineError(thrown)) });
    }
  }

  #withGrammar(request: GenerateRequest): GenerateRequest {
    if (request.grammar === undefined) return request;
    return { ...request, grammar: this.#compiler().take(request.grammar) };
  }

  async #compileGrammar(job: number, source: GrammarSource): Promise<void> {
    const answer = await this.#compileOrError(source);
    this.#post({ type: "grammarCompiled", job, answer });
  }

  async #compileOrError(source: GrammarSource): Promise<GrammarAnswer | ErrorData> {
    try {
      return await this.#compiler().compile(source);
    } catch (thrown) {
      return errorToData(toKvEngineError(thrown));
    }
  }

  #compiler(): Grammars {
    if (this.#grammars === undefined)
      throw new KvEngineError("unsupported", "this engine compiles no grammars");
    return this.#grammars;
  }

  #pin(query: PinQuery): PinAnswer | ErrorData {
    try {
      if (this.#pins !== undefined) return this.#pins.answer(query);
      throw new KvEngineError("unsupported", "no KV connector keeps pages that could be pinned", {
        hint: "start the server with --kv-connector cpu-offload",
      });
    } catch (thrown) {
      return errorToData(toKvEngineError(thrown));
    }
  }

  async #move(job: number, query: SessionQuery): Promise<void> {
    let answer: SessionAnswer | ErrorData;
    try {
      if (this.#sessions === undefined)
        throw new KvEngineError("unsupported", "no KV connector keeps pages of sessions", {
          hint: "start the server with --kv-connector cpu-offload",
        });
      answer = await this.#sessions.answer(query);
    } catch (thrown) {
      answer = errorToData(toKvEngineError(thrown));
    }
    if (this.#stopped) return;
    this.#post({ type: "moved", job, answer });
    // Its numbers go along with a message of their own: the next request may be a long time off.
    this.news();
  }

  async #takeProfile(on: boolean): Promise<void> {
    try {
      this.#post({ type: "profile", profile: await this.#running().takeProfile(on) });
    } catch (thrown) {
      if (!this.#stopped)
        this.#post({ type: "fatal", error: errorToData(toKvEngineError(thrown)) });
    }
  }

  async #stop(): Promise<void> {
    this.#stopped = true;
    try {
      await this.#engine?.stop();
      this.#post({ type: "stopped" });
    } catch (thrown) {
      this.#post({ type: "fatal", error: errorToData(toKvEngineError(thrown)) });
    }
  }

  #running(): Engine {
    if (this.#engine === undefined)
      throw new KvEngineError("unavailable", "the engine has not started");
    return this.#engine;
  }
}
