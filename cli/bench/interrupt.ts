/** Ctrl-C during a bench: once keeps what was measured, twice ends at once. */

import { EXIT } from "../output.ts";

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
}

/** Listens until it is disposed of. @param onFirst told of the first one. */
export function listenForInterrupt(onFirst: () => void): Interrupt {
  const controller = new AbortController();
  const hear = (): void => {
    // Servers that were started end with the process.
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    onFirst();
    controller.abort();
  };
  process.on("SIGINT", hear).on("SIGTERM", hear);
  return {
    signal: controller.signal,
    [Symbol.dispose](): void {
      process.off("SIGINT", hear).off("SIGTERM", hear);
    },
  };
}
