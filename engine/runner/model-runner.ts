/** The device's thread as the engine sees it: steps go in, results come out in the same order. */

import type { StepsProfile } from "./profile.ts";
import type { ScheduledBatch, StepResult } from "../scheduler/batch.ts";

/** Steps that are kept submitted, so that the device finds the next one when it ends one. */
export const QUEUE_DEPTH = 2;

export interface ModelRunner {
  /** Steps submitted whose result has not been taken. */
  readonly queued: number;
  /** Queues a step; opens the seats of `batch.opened` before it. Keeps nothing of the batch, never throws. */
  submit(batch: ScheduledBatch): void;
  /** The result of the oldest submitted step; a step that failed is a result with `error`. One call at a time. */
  next(): Promise<StepResult>;
  /** What ops have cost since the last call, where it was counted; `on`: whether it is from here on. */
  takeProfile(on: boolean): Promise<StepsProfile>;
  /** Drops what is queued, whose results become errors, and frees the device. */
  stop(): Promise<void>;
}
