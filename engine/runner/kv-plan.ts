/** How many KV blocks there are and how long a sequence may be: from options, the model and the memory that is free. */

import { type GroupSpec, peakBlocks } from "../cache/block-group.ts";
import { KvEngineError } from "../errors.ts";
import { longestSequence } from "../request-limits.ts";
import { DEVICE_MEMORY_HINT } from "./device.ts";

export interface KvPlanInput {
  /** Blocks of the pool, the null block included; 0 = planned. */
  readonly numGpuBlocksOverride: number;
  /** Bytes for KV; 0 = planned. */
  readonly kvCacheMemory: number;
  /** 0 = the model's own. */
  readonly maxModelLen: number;
  /** Longest sequence the model was made for. */
  readonly contextLength: number;
  readonly maxNumSeqs: number;
  readonly blockSize: number;
  readonly groups: readonly GroupSpec[];
  /** Most tokens of one sequence in steps that have not committed. */
  readonly maxInFlightTokens: number;
  /** Bytes of one block. */
  readonly pageBytes: number;
  /** Bytes of the model's weights, which come out of the free memory too. */
  readonly weightBytes: number;
  /** Bytes that are free now, before weights and KV. Read only where the number of blocks is planned from it. */
  readonly memoryAvailable: () => number;
  /** Where a device has memory of its own; all of it that is left is for KV. Read as the above. */
  readonly device?: () => DeviceBudget;
}

/** Memory of a device, in bytes. */
export interface DeviceBudget {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Share of it that may be in use, by whomever. */
  readonly utilization: number;
  /** What the program takes beside KV: weights, activations and what steps need. */
  readonly programBytes: number;
}

export interface KvPlan {
  /** The null block included. */
  readonly numBlocks: number;
  readonly maxModelLen: number;
}

/** Share of the memory left beside the weights that KV may take: the rest is for activations, the page cache and others. */
const MEMORY_SHARE = 0.5;

/** More than a block's id can name. */
const MOST_BLOCKS = 16_777_216;

/** Throws `bad_config` or `out_of_memory` with the numbers. */
export function planKv(input: KvPlanInput): KvPlan {
  const { blockSize, groups, contextLength, maxNumSeqs, maxInFlightTokens } = input;
  if (input.maxModelLen > contextLength) {
    throw new KvEngineError(
      "bad_config",
      `max-model-len is ${input.maxModelLen}; this model takes ${contextLength}`,
      {
        subject: "max-model-len",
      },
    );
  }
  const wantedLen = input.maxModelLen === 0 ? contextLength : input.maxModelLen;
  const blocksOf = (length: number): number =>
    peakBlocks(groups, blockSize, length, maxInFlightTokens);
  const numBlocks =
    input.numGpuBlocksOverride > 0
      ? input.numGpuBlocksOverride
      : planBlocks(input, 1 + blocksOf(1), 1 + maxNumSeqs * blocksOf(wantedLen));
  const usable = numBlocks - 1;
  const isOverridden = input.numGpuBlocksOverride > 0;
  const subject = isOverridden ? "num-gpu-blocks-override" : "kv-cache-memory";
  if (usable < blocksOf(1)) {
    const least = 1 + blocksOf(1);
    throw new KvEngineError(
      isOverridden ? "bad_config" : "out_of_memory",
      `${numBlocks} KV blocks of ${input.pageBytes} bytes are too few: at least ${least} are needed ` +
        "(one of them is never used)",
      {
        subject,
        hint: isOverridden
          ? `raise --num-gpu-blocks-override to ${least} at least`
          : `give the KV cache at least ${least * input.pageBytes} bytes with --kv-cache-memory`,
      },
    );
  }
  const longest = longestSequence({
    maxModelLen: contextLength,
    blockSize,
    groups,
    maxInFlightTokens,
    numBlocks: usable,
  });
  if (longest < input.maxModelLen) {
    throw new KvEngineError(
      "bad_config",
      `max-model-len is ${input.maxModelLen}; ${usable} KV blocks of ${blockSize} tokens hold one sequence of ${longest}`,
      {
        subject: "max-model-len",
        hint: `lower --max-model-len to ${longest} or raise --${subject}`,
      },
    );
  }
  return { numBlocks, maxModelLen: Math.min(wantedLen, longest) };
}

function tooSmall(device: DeviceBudget, kvBytes: number): KvEngineError {
  const { totalBytes, freeBytes, utilization, programBytes } = device;
  const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  return new KvEngineError(
    "out_of_memory",
    `the model needs ${mib(programBytes)} of device memory and ${mib(kvBytes)} for KV at least; of ${mib(totalBytes)} there are ` +
      `${mib(freeBytes)} free, and ${utilization} of all may be in use`,
    { subject: "gpu-memory-utilization", hint: `raise it, or ${DEVICE_MEMORY_HINT}` },
  );
}

/**
 * Blocks that fit in the memory for KV. Where nobody said how much that is, no more than `useful`: more would only keep prefixes of
 * conversations that do not run, which is worth memory to those who give it. A device has room for the program and `least` blocks,
 * or it is refused.
 */
function planBlocks(
  { pageBytes, kvCacheMemory, ...input }: KvPlanInput,
  least: number,
  useful: number,
): number {
  // A backend that computes nothing has pages of no size.
  if (pageBytes === 0) return useful;
  if (kvCacheMemory > 0) return Math.floor(kvCacheMemory / pageBytes);
  if (input.device !== undefined) {
    const device = input.device();
    const { totalBytes, freeBytes, utilization, programBytes } = device;
    const blocks = Math.floor(
      (totalBytes * utilization - totalBytes + freeBytes - programBytes) / pageBytes,
    );
    if (blocks < least) throw tooSmall(device, least * pageBytes);
    return Math.min(blocks, MOST_BLOCKS);
  }
  const memory = Math.max(0, input.memoryAvailable() - input.weightBytes) * MEMORY_SHARE;
  return Math.min(Math.floor(memory / pageBytes), useful);
}
