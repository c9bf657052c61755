/**
 * Compiled grammars of the engine, by a digest of their source: requests of one client follow few. They are compiled on native threads;
 * what takes too long is refused, and its thread ends by the limits of `kernels/core/src/grammar`.
 */

import { createHash } from "node:crypto";
import { KvEngineError } from "./errors.ts";
import type { CompiledGrammar, GrammarRef, GrammarSource } from "./request.ts";

export interface GrammarAnswer extends CompiledGrammar {
  readonly key: string;
}

export type CompileGrammar = (source: GrammarSource) => Promise<CompiledGrammar>;

interface Kept {
  readonly compiled: Promise<CompiledGrammar>;
  /** Once it is there. */
  grammar?: CompiledGrammar;
}

/** Most grammars that are kept for requests to come. Each holds up to some megabytes. */
const MAX_KEPT = 128;
/** Most that are compiled at a time, and most that wait for that. */
const MAX_COMPILING = 4;
const MAX_WAITING = 64;
const TIMEOUT_MS = 5000;

export class Grammars {
  readonly #compile: CompileGrammar;
  readonly #timeoutMs: number;
  /** The one that was used last is the last. */
  readonly #kept = new Map<string, Kept>();
  #numCompiling = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(compile: CompileGrammar, timeoutMs: number = TIMEOUT_MS) {
    this.#compile = compile;
    this.#timeoutMs = timeoutMs;
  }

  /** Throws `invalid_request` with what is wrong with the source, `unavailable` when too many are compiled. */
  async compile(source: GrammarSource): Promise<GrammarAnswer> {
    const key = createHash("sha256").update(source.text).digest("base64");
    const kept = this.#kept.get(key) ?? this.#begin(key, source);
    this.#keep(key, kept);
    const { warnings } = await this.#inTime(kept.compiled);
    return { key, warnings };
  }

  /** A compiled one with the object that the sampler wants; it lives as long as that is held. Throws `unavailable`. */
  take({ key }: GrammarRef): GrammarRef {
    const kept = this.#kept.get(key);
    if (kept?.grammar === undefined)
      throw new KvEngineError("unavailable", "the request's grammar is not kept any more", {
        hint: "send the request again",
      });
    this.#keep(key, kept);
    return { key, compiled: kept.grammar };
  }

  #begin(key: string, source: GrammarSource): Kept {
    if (this.#waiting.length >= MAX_WAITING)
      throw new KvEngineError("unavailable", `${MAX_WAITING} grammars wait to be compiled`, {
        hint: "send the request again",
        retryAfter: 1,
      });
    const kept: Kept = { compiled: this.#inTurn(source) };
    kept.compiled.then(
      (grammar) => (kept.grammar = grammar),
      // Who has asked is told; the next one who asks has it compiled again.
      () => this.#kept.delete(key),
    );
    return kept;
  }

  async #inTurn(source: GrammarSource): Promise<CompiledGrammar> {
    if (this.#numCompiling < MAX_COMPILING) this.#numCompiling++;
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      await promise;
    }
    try {
      return await this.#compile(source);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#numCompiling--;
      else next();
    }
  }

  /** As the one that was used last; the one that has not been used for longest goes. */
  #keep(key: string, kept: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
  }

  async #inTime(compiled: Promise<CompiledGrammar>): Promise<CompiledGrammar> {
    const { promise, reject } = Promise.withResolvers<never>();
    const seconds = this.#timeoutMs / 1000;
    const timer = setTimeout(
      () =>
        reject(
          new KvEngineError("invalid_request", `it takes more than ${seconds} s to compile`, {
            hint: "make it smaller",
          }),
        ),
      this.#timeoutMs,
    );
    return Promise.race([compiled, promise]).finally(() => clearTimeout(timer));
  }
}
