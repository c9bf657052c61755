/**
 * Whose code runs on the engine's thread: one hook of one connector at a time, or none. It stands in shared memory, since a hook
 * that does not return can tell nobody: the HTTP thread reads it there (`hang-watchdog.ts`).
 */

import { HOOK_NUMBER, HOOKS, type Hook } from "./hooks.ts";

/** Bits of the word: a call's number, the connector's place, the hook's number plus one. 0 = no hook runs. */
const HOOK_BITS = 5;
const CONNECTOR_BITS = 8;
const CALL_BITS = 18;
/** Connectors that one engine can run. */
export const MAX_CONNECTORS: number = 2 ** CONNECTOR_BITS;

/** Shared memory for one engine. */
export function createHookWord(): SharedArrayBuffer {
  return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
}

/** The engine's side. */
export class HookTurn {
  readonly #word: Int32Array;
  #call = 0;
  #connector = -1;
  #hook: Hook | undefined;

  constructor(word: SharedArrayBuffer = createHookWord()) {
    this.#word = new Int32Array(word);
  }

  /** Place of the connector whose hook runs; -1 = none does. */
  get connector(): number {
    return this.#connector;
  }

  /** The hook that runs. */
  get hook(): Hook | undefined {
    return this.#hook;
  }

  /** False, and nothing changed, while another hook runs. */
  begin(connector: number, hook: Hook): boolean {
    if (this.#connector >= 0) return false;
    this.#connector = connector;
    this.#hook = hook;
    // So that two calls of one hook, one soon after the other, are not taken for one.
    this.#call = (this.#call + 1) % 2 ** CALL_BITS;
    const what = (connector << HOOK_BITS) | (HOOK_NUMBER[hook] + 1);
    Atomics.store(this.#word, 0, (this.#call << (HOOK_BITS + CONNECTOR_BITS)) | what);
    return true;
  }

  end(): void {
    this.#connector = -1;
    this.#hook = undefined;
    Atomics.store(this.#word, 0, 0);
  }
}

/** A hook that runs. */
export interface RunningHook {
  /** Equal for equal calls, as long as fewer than 2^18 lie between. */
  readonly call: number;
  readonly connector: number;
  readonly hook: Hook;
}

/** Any thread's side. */
export function readHookWord(word: SharedArrayBuffer): RunningHook | undefined {
  const call = Atomics.load(new Int32Array(word), 0);
  const hook = HOOKS[(call & (2 ** HOOK_BITS - 1)) - 1];
  if (hook === undefined) return undefined;
  return { call, connector: (call >> HOOK_BITS) & (MAX_CONNECTORS - 1), hook };
}
