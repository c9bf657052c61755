/**
 * The only importer of the native module. What it throws becomes a `KvEngineError` here: its messages are JSON
 * `{code, message}`.
 */

import { type ErrorData, errorFromData, KvEngineError, toKvEngineError } from "../errors.ts";
import { type Binding, loadAddon } from "./addon.ts";

import type {
  CudaStatus,
  DiskOptions,
  Factors,
  FlightResult,
  Profile,
  ProgramInfo,
  ProgramSpec,
  SeatParams,
  StepResult as NativeStepResult,
  TransferOptions,
} from "../../kernels/binding/index.js";

export type {
  CudaStatus,
  DType,
  Factors,
  KvGroup,
  Op,
  ProgramInfo,
  ProgramSpec,
  SeatParams,
  TensorSource,
  TokenizerVocabulary,
  TransferOptions,
  ValueInfo,
} from "../../kernels/binding/index.js";

/** Words of a block hash. */
const HASH_WORDS = 8;

type NativeRunner = InstanceType<Binding["Runner"]>;
export type RawTransfers = InstanceType<Binding["Transfers"]>;
export type RawDisk = InstanceType<Binding["DiskStore"]>;

const binding: Binding = await loadAddon();

/** Calls native code; what it throws comes out as a `KvEngineError`. */
export function callNative<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromNative(thrown);
  }
}

/** An error of the native side, thrown or rejected. */
export function fromNative(thrown: unknown): KvEngineError {
  if (
    thrown instanceof Error &&
    !(thrown instanceof KvEngineError) &&
    thrown.message.startsWith("{")
  ) {
    let data: ErrorData;
    try {
      data = JSON.parse(thrown.message) as ErrorData;
    } catch {
      return toKvEngineError(thrown);
    }
    return errorFromData(data);
  }
  return toKvEngineError(thrown);
}

/** A compiled program and the thread that runs it. Methods throw `KvEngineError`. */
export class Runner {
  readonly #native: NativeRunner;

  private constructor(native: NativeRunner) {
    this.#native = native;
  }

  /** Checks, plans and repacks on a native thread. `onResult` is called once for each submitted step, in order. */
  static async create(
    spec: ProgramSpec,
    onResult: (result: NativeStepResult) => void,
  ): Promise<Runner> {
    try {
      return new Runner(await binding.Runner.create(spec, onResult));
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  info(): ProgramInfo {
    return callNative(() => this.#native.info());
  }

  /** The tape and the memory plan as text. */
  describe(): string {
    return callNative(() => this.#native.describe());
  }

  /** Starts a sequence on a seat, in order with submitted steps. `history`: its tokens so far, where the params or a grammar need them. */
  openSeat(seat: number, params: SeatParams, history: Int32Array, grammar?: NativeGrammar): void {
    callNative(() => this.#native.openSeat(seat, params, history, grammar));
  }

  /** Queues a step; the array is copied. */
  submit(step: Int32Array): void {
    callNative(() => this.#native.submit(step));
  }

  /** Logits of the sampled positions, `[samples, vocabulary]`. For tests and measurement. */
  async logits(step: Int32Array): Promise<Float32Array> {
    try {
      return await this.#native.logits(step);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /** What ops have cost since the last call, where it was counted; `on`: whether it is from here on. */
  async takeProfile(on: boolean): Promise<Profile> {
    try {
      return await this.#native.takeProfile(on);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /** How many pages a host pool could have now, beside the KV blocks. */
  hostPagesThatFit(): number {
    return callNative(() => this.#native.hostPagesThatFit());
  }

  /** The native transfer threads as they are: `NativeTransfers` wraps their calls. */
  openTransfers(
    options: TransferOptions,
    onResults: (results: FlightResult[]) => void,
  ): RawTransfers {
    return callNative(() => this.#native.openTransfers(options, onResults));
  }

  /** Ends the thread and frees everything. */
  async stop(): Promise<void> {
    try {
      await this.#native.stop();
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }
}

/** The native disk store as it is: `NativeDisk` wraps its calls. */
export async function openDisk(options: DiskOptions): Promise<RawDisk> {
  try {
    return await binding.DiskStore.open(options);
  } catch (thrown) {
    throw fromNative(thrown);
  }
}

/** What the processor can do, and what `auto` picks. */
export function cpuFeatures(): ReturnType<Binding["cpuFeatures"]> {
  return callNative(() => binding.cpuFeatures());
}

/** Bytes that can still be had: the machine's or the control group's, whichever is less. */
export function memoryAvailable(): number {
  return callNative(() => binding.memoryAvailable());
}

/** The NVIDIA driver and its GPUs, or why there is none to use. Takes no memory of a GPU. */
export function cudaStatus(): CudaStatus {
  return callNative(() => binding.cudaStatus());
}

/** Bytes of a GPU's memory: all, and those that are free. */
export function deviceMemory(backend: string): ReturnType<Binding["deviceMemory"]> {
  return callNative(() => binding.deviceMemory(backend));
}

/** Bytes of a GPU's memory that a program takes beside its KV blocks. */
export function deviceBytes(spec: ProgramSpec): number {
  return callNative(() => binding.deviceBytes(spec));
}

/** Measures what this machine gives at most. A call takes the time that it is given, and this thread. */
export class MachineLimits {
  readonly #native: InstanceType<Binding["MachineLimits"]>;

  /** `footprint`: bytes of memory that reads go through; it is held as long as this object. */
  constructor(threads: number, footprint: number) {
    this.#native = callNative(() => new binding.MachineLimits(threads, footprint));
  }

  /** Bytes a second that all threads read. */
  readBandwidth(millis: number): number {
    return callNative(() => this.#native.readBandwidth(millis));
  }

  /** Multiply-accumulates a second of all threads; undefined where this CPU has no instruction of the set for them. */
  multiplyRate(
    isa: "avx512" | "avx2" | "neon" | "portable",
    factors: Factors,
    millis: number,
  ): number | undefined {
    return callNative(() => this.#native.multiplyRate(isa, factors, millis)) ?? undefined;
  }
}

/** Bytes of one KV page of these groups on a backend. */
export function pageBytes(...args: Parameters<Binding["pageBytes"]>): number {
  return callNative(() => binding.pageBytes(...args));
}

/** Elements of a weight tensor's bytes as f32. For tests and `inspect`. */
export function dequantize(...args: Parameters<Binding["dequantize"]>): Float32Array {
  return callNative(() => binding.dequantize(...args));
}

/**
 * Hashes of the full blocks of `tokens`, 8 words each; `parent` is the hash of the block before, or `noneHash`. The salt goes into
 * the first block's hash.
 */
export function hashBlocks(
  parent: Int32Array,
  tokens: Int32Array,
  blockSize: number,
  firstBlockSalt?: string,
): Int32Array {
  const numBlocks = blockSize > 0 ? Math.floor(tokens.length / blockSize) : 0;
  const out = new Int32Array(HASH_WORDS * numBlocks);
  callNative(() => {
    binding.hashBlocks(bytesOf(parent), tokens, blockSize, bytesOf(out), firstBlockSalt);
  });
  return out;
}

/** Hashes of blocks of different sequences, 8 words each: block `i` of `tokens` behind the block of hash `i` of `parents`. */
export function hashEach(parents: Int32Array, tokens: Int32Array, blockSize: number): Int32Array {
  const out = new Int32Array(parents.length);
  callNative(() => {
    binding.hashEach(bytesOf(parents), tokens, blockSize, bytesOf(out));
  });
  return out;
}

/** The parent of a first block. */
export function noneHash(seed: string): Int32Array {
  const { buffer, byteOffset, byteLength } = callNative(() => binding.noneHash(seed));
  return new Int32Array(buffer, byteOffset, byteLength / Int32Array.BYTES_PER_ELEMENT);
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The native tokenizer class as it is: wrap its calls in `callNative`. */
export const NativeTokenizer: Binding["Tokenizer"] = binding.Tokenizer;
export type NativeTokenizer = InstanceType<Binding["Tokenizer"]>;

/** The native classes of grammars as they are. */
export const NativeGrammarCompiler: Binding["GrammarCompiler"] = binding.GrammarCompiler;
export type NativeGrammarCompiler = InstanceType<Binding["GrammarCompiler"]>;
export const NativeGrammar: Binding["Grammar"] = binding.Grammar;
export type NativeGrammar = InstanceType<Binding["Grammar"]>;
