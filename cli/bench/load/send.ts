/** What stands between a load and a target: one request out, one record back. */

import type { Prompt, RequestRecord } from "../types.ts";

export interface OutgoingRequest {
  readonly conversation: string;
  /** From 0. */
  readonly turn: number;
  readonly prompt: Prompt;
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
  readonly numPromptTokens?: number;
}

export interface SendContext {
  /** Milliseconds since the start of the run. */
  now(): number;
  /** Once it aborts, the record comes soon, with what there is. Its reason is a text that says why. */
  readonly signal: AbortSignal;
  /** Called when the first chunk with output has come. */
  onFirstChunk(): void;
}

export interface Sent {
  readonly record: RequestRecord;
  /** Of the output, where the target tells them. */
  readonly tokenIds?: readonly number[];
  /** Nothing answered at the address: no request can succeed while that lasts. */
  readonly unreachable?: true;
}

/** Sends one request. What goes wrong with it is in its record; a rejection is a bug. */
export type Send = (request: OutgoingRequest, context: SendContext) => Promise<Sent>;
