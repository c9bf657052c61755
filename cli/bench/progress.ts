/** How a run goes, on a terminal; elsewhere nothing. */

import { SingleBar } from "cli-progress";
import type { RunObserver } from "./run-options.ts";

const FORMAT =
  "{label} [{bar}] {value}/{total} requests | {running} running | {rate} tokens/s | {failed} failed | {duration_formatted}";

/** Undefined = the run needs no observer. */
export function createRunDisplay(wanted: boolean): RunObserver | undefined {
  if (!wanted || !process.stderr.isTTY) return undefined;
  return new RunDisplay();
}

class RunDisplay implements RunObserver {
  #bar: SingleBar | undefined;
  #start = 0;
  #sent = 0;
  #ended = 0;
  #failed = 0;
  #tokens = 0;

  begin(label: string, numRequests: number): void {
    [this.#sent, this.#ended, this.#failed, this.#tokens] = [0, 0, 0, 0];
    this.#start = performance.now();
    // Four pictures a second: the display is work of the client's, which is measured.
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: FORMAT,
      fps: 4,
      clearOnComplete: true,
      hideCursor: true,
    });
    this.#bar.start(numRequests, 0, this.#payload(label));
  }

  sent(): void {
    this.#sent++;
  }

  ended({ outputTokens, outcome }: Parameters<RunObserver["ended"]>[0]): void {
    this.#ended++;
    this.#tokens += outputTokens;
    if (outcome !== "ok") this.#failed++;
    this.#bar?.update(this.#ended, this.#payload());
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #payload(label?: string): object {
    const seconds = (performance.now() - this.#start) / 1000;
    return {
      ...(label === undefined ? {} : { label }),
      running: this.#sent - this.#ended,
      rate: seconds > 0 ? Math.round(this.#tokens / seconds) : 0,
      failed: this.#failed,
    };
  }
}
