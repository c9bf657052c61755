/** Which request was the last of each session: clients name the conversation that a request belongs to. */

import type { NamedRequest } from "../../connectors/sessions/session-query.ts";

/** Most sessions that are remembered: the engine remembers no more requests. */
const MAX_SESSIONS = 256;

interface Named extends NamedRequest {
  readonly owner: string;
}

export class SessionBook {
  /** The longest unused first. */
  readonly #named = new Map<string, Named>();

  get size(): number {
    return this.#named.size;
  }

  /** `request`: what the engine calls it. */
  note(owner: string, session: string, request: string | undefined): void {
    if (request === undefined) return;
    const key = JSON.stringify([owner, session]);
    this.#named.delete(key);
    this.#named.set(key, { owner, session, request });
    for (const oldest of this.#named.keys()) {
      if (this.#named.size <= MAX_SESSIONS) break;
      this.#named.delete(oldest);
    }
  }

  /** The engine's id of the session's last request; undefined = it is not remembered, or another party's. */
  requestOf(owner: string, session: string): string | undefined {
    return this.#named.get(JSON.stringify([owner, session]))?.request;
  }

  of(owner: string): readonly NamedRequest[] {
    return [...this.#named.values()].flatMap(({ session, request, owner: whose }) =>
      whose === owner ? [{ session, request }] : [],
    );
  }
}
