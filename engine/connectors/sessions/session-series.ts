/** The engine's numbers about sessions, as series: written from time to time, not as they change. */

import { PacedUpdate } from "../paced-update.ts";
import type { SampleStore, Series } from "../sample-store.ts";
import type { SessionQuery } from "./session-query.ts";

type Move = Exclude<SessionQuery["kind"], "list" | "room">;
const MOVES: readonly Move[] = ["freeze", "thaw", "export", "import"];
const OUTCOMES = ["ok", "failed"] as const;
type Outcome = (typeof OUTCOMES)[number];
type FileMove = "export" | "import";

/** What has become of moves. */
export class SessionCounts {
  readonly #moves = new Map<string, number>();
  readonly #bytes = new Map<FileMove, number>();

  moved(move: Move, outcome: Outcome): void {
    const key = `${move} ${outcome}`;
    this.#moves.set(key, (this.#moves.get(key) ?? 0) + 1);
  }

  numMoved(move: Move, outcome: Outcome): number {
    return this.#moves.get(`${move} ${outcome}`) ?? 0;
  }

  /** A file of a session was written or read whole. */
  filed(move: FileMove, bytes: number): void {
    this.#bytes.set(move, this.bytesOf(move) + bytes);
  }

  bytesOf(move: FileMove): number {
    return this.#bytes.get(move) ?? 0;
  }
}

/** How kept sessions stand. */
export interface KeptNumbers {
  readonly frozen: number;
  readonly gone: number;
  readonly tokens: number;
  readonly bytes: number;
}

export interface SessionNumbers {
  readonly counts: SessionCounts;
  kept(): KeptNumbers;
}

export class SessionSeries {
  readonly #samples: SampleStore;
  readonly #sessions: SessionNumbers;
  readonly #paced: PacedUpdate;

  /** `now`: milliseconds, monotonic. */
  constructor(samples: SampleStore, sessions: SessionNumbers, now: () => number) {
    this.#samples = samples;
    this.#sessions = sessions;
    this.#paced = new PacedUpdate(() => this.#write(), now);
    // A series that appears with its first event hides that event from rate().
    this.#write();
  }

  update(isLast: boolean): void {
    this.#paced.update(isLast);
  }

  #write(): void {
    const { counts } = this.#sessions;
    const { frozen, gone, tokens, bytes } = this.#sessions.kept();
    this.#gauge("kvengine:sessions", { state: "frozen" }).set(frozen);
    this.#gauge("kvengine:sessions", { state: "gone" }).set(gone);
    this.#gauge("kvengine:session_kept_tokens").set(tokens);
    this.#gauge("kvengine:session_kept_bytes").set(bytes);
    for (const move of MOVES)
      for (const outcome of OUTCOMES)
        this.#counter("kvengine:session_moves_total", { move, outcome }).set(
          counts.numMoved(move, outcome),
        );
    for (const move of ["export", "import"] as const)
      this.#counter("kvengine:session_file_bytes_total", { move }).set(counts.bytesOf(move));
  }

  #gauge(name: string, labels: Readonly<Record<string, string>> = {}): Series {
    return this.#samples.series("gauge", name, labels);
  }

  #counter(name: string, labels: Readonly<Record<string, string>>): Series {
    return this.#samples.series("counter", name, labels);
  }
}
