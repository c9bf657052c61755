/** Bytes on their way, and how far they are: shown once that takes longer than a moment. */

import type { Progress } from "../output.ts";

/** Milliseconds without anything to see. */
const QUIET_MS = 2000;

/** The same bytes; `total` undefined = nobody knows. */
export function counted(
  bytes: ReadableStream<Uint8Array>,
  label: string,
  total: number | undefined,
  progress: Pick<Progress, "update">,
): ReadableStream<Uint8Array> {
  const shownFrom = performance.now() + QUIET_MS;
  let done = 0;
  return bytes.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller): void {
        done += chunk.byteLength;
        if (performance.now() >= shownFrom) progress.update(label, done, total);
        controller.enqueue(chunk);
      },
    }),
  );
}
