/** What listens before the model is ready: everything is answered with 503 until the app is there. */

import { KvEngineError } from "../errors.ts";
import type { Bindings } from "./deps.ts";
import { errorResponse } from "./http-error.ts";
import type { Answering } from "./listen.ts";

export class Gate implements Answering {
  #app: Answering | undefined;

  open(app: Answering): void {
    this.#app = app;
  }

  fetch(request: Request, bindings: Bindings): Response | Promise<Response> {
    return this.#app === undefined ? errorResponse(LOADING) : this.#app.fetch(request, bindings);
  }
}

const LOADING = new KvEngineError("unavailable", "the model is being loaded", {
  hint: "try again in a moment",
});
