/** The events of a response's stream, numbered. */

import type { KvEngineError } from "../../errors.ts";
import type { ChoiceDelta } from "../choice.ts";
import type { FrameWriter } from "../sse.ts";
import type { ResponseEvent } from "./output.ts";
import type { ModelResponse } from "./response.ts";

export class ResponseFrames implements FrameWriter {
  readonly #response: ModelResponse;
  /** Told once the response has ended. */
  readonly #onEnd: () => void;
  #number = 0;

  constructor(response: ModelResponse, onEnd: () => void) {
    this.#response = response;
    this.#onEnd = onEnd;
  }

  start(): string {
    return this.#about("response.created") + this.#about("response.in_progress");
  }

  delta(delta: ChoiceDelta): string {
    return this.#response
      .add(delta)
      .map((event) => this.#frame(event))
      .join("");
  }

  end(): string {
    this.#onEnd();
    return this.#about(
      this.#response.status === "incomplete" ? "response.incomplete" : "response.completed",
    );
  }

  fail(error: KvEngineError): string {
    this.#response.fail(error);
    this.#onEnd();
    return this.#about("response.failed");
  }

  #about(type: string): string {
    return this.#frame({ type, response: this.#response });
  }

  #frame(event: ResponseEvent): string {
    const { type, ...rest } = event;
    const json = JSON.stringify({ type, sequence_number: this.#number++, ...rest });
    return `event: ${type}\ndata: ${json}\n\n`;
  }
}
