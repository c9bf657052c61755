/** What a committed step brought, as parallel arrays: one message a step to the HTTP side, however many requests run. */

import type { CacheReceipt, Finish, PromptLogprobs, TopLogprobs } from "../request.ts";

export interface StepEvents {
  /** Requests with news, in the order of the step's rows. */
  readonly handles: Int32Array;
  /** Request `i` owns tokens `tokenStart[i]..tokenStart[i + 1]`, none for one that only ends. */
  readonly tokenStart: Int32Array;
  readonly tokenIds: Int32Array;
  /** Natural log-probability of each token; 0 where its request did not ask. */
  readonly logprobs: Float32Array;
  /** Of tokens whose request asked for it, by index into `tokenIds`, ascending. */
  readonly tops: readonly TokenTops[];
  /** Cached prompt tokens of requests that got their first token, where there are any, by index into `handles`, ascending. */
  readonly cached: readonly SequenceCached[];
  /** Of requests that asked for it, by index into `handles`, ascending. */
  readonly prompts: readonly SequencePrompt[];
  /** Those that ended, by index into `handles`, ascending. */
  readonly finishes: readonly SequenceFinish[];
}

/** Of a message that has numbers alone. */
export const NO_EVENTS: StepEvents = {
  handles: new Int32Array(0),
  tokenStart: Int32Array.of(0),
  tokenIds: new Int32Array(0),
  logprobs: new Float32Array(0),
  tops: [],
  cached: [],
  prompts: [],
  finishes: [],
};

export interface TokenTops {
  readonly index: number;
  readonly top: TopLogprobs;
}

export interface SequenceCached {
  readonly index: number;
  readonly numTokens: number;
  readonly receipt: CacheReceipt;
}

export interface SequencePrompt {
  readonly index: number;
  readonly logprobs: PromptLogprobs;
}

export interface SequenceFinish {
  readonly index: number;
  readonly finish: Finish;
}

/** Collects a step's events; `take` hands them out as arrays of exact length, which cross threads without slack. */
export class StepEventsBuilder {
  #handles = new Int32Array(64);
  #tokenStart = new Int32Array(65);
  #tokenIds = new Int32Array(64);
  #logprobs = new Float32Array(64);
  #numEvents = 0;
  #numTokens = 0;
  #tops: TokenTops[] = [];
  #cached: SequenceCached[] = [];
  #prompts: SequencePrompt[] = [];
  #finishes: SequenceFinish[] = [];

  /** Begins the event of a request; tokens and a finish that follow belong to it. */
  begin(handle: number): void {
    if (this.#numEvents === this.#handles.length) {
      this.#handles = grown(this.#handles);
      this.#tokenStart = grown(this.#tokenStart);
    }
    this.#tokenStart[this.#numEvents] = this.#numTokens;
    this.#handles[this.#numEvents++] = handle;
  }

  token(tokenId: number, logprob: number): void {
    if (this.#numTokens === this.#tokenIds.length) {
      this.#tokenIds = grown(this.#tokenIds);
      const logprobs = new Float32Array(this.#tokenIds.length);
      logprobs.set(this.#logprobs);
      this.#logprobs = logprobs;
    }
    this.#logprobs[this.#numTokens] = logprob;
    this.#tokenIds[this.#numTokens++] = tokenId;
  }

  /** Belongs to the token added last. */
  top(top: TopLogprobs): void {
    this.#tops.push({ index: this.#numTokens - 1, top });
  }

  cached(numTokens: number, receipt: CacheReceipt): void {
    this.#cached.push({ index: this.#numEvents - 1, numTokens, receipt });
  }

  prompt(logprobs: PromptLogprobs): void {
    this.#prompts.push({ index: this.#numEvents - 1, logprobs });
  }

  finish(finish: Finish): void {
    this.#finishes.push({ index: this.#numEvents - 1, finish });
  }

  take(): StepEvents {
    this.#tokenStart[this.#numEvents] = this.#numTokens;
    const events: StepEvents = {
      handles: this.#handles.slice(0, this.#numEvents),
      tokenStart: this.#tokenStart.slice(0, this.#numEvents + 1),
      tokenIds: this.#tokenIds.slice(0, this.#numTokens),
      logprobs: this.#logprobs.slice(0, this.#numTokens),
      tops: this.#tops,
      cached: this.#cached,
      prompts: this.#prompts,
      finishes: this.#finishes,
    };
    this.#numEvents = 0;
    this.#numTokens = 0;
    this.#tops = [];
    this.#cached = [];
    this.#prompts = [];
    this.#finishes = [];
    return events;
  }
}

function grown(array: Int32Array): Int32Array<ArrayBuffer> {
  const twice = new Int32Array(array.length * 2);
  twice.set(array);
  return twice;
}
