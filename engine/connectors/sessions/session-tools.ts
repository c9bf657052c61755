/** What sessions are moved with. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import type { DiskStore } from "../../cache/disk-store.ts";
import type { DiskPins } from "../disk-pins.ts";
import type { Retained } from "../retained.ts";
import type { ContentMoves } from "./content-moves.ts";
import type { SessionFolder } from "./session-folder.ts";
import type { SessionModel } from "./session-file.ts";

export interface SessionTools {
  readonly moves: ContentMoves;
  readonly retained: Retained;
  /** Where there is one. */
  readonly disk?: Pick<DiskStore, "has" | "stats">;
  /** With `disk`. */
  readonly diskPins?: Pick<DiskPins, "add" | "remove" | "stored" | "isKept">;
  /** What is known after a restart, where a disk keeps pages. */
  readonly records?: Pick<SessionFolder, "found" | "has" | "put" | "remove">;
  /** All but the fingerprint, for which the model's files are read. */
  readonly model: Omit<SessionModel, "fingerprint">;
  readonly fingerprint: () => Promise<string>;
  readonly vocabSize: number;
  /** Keys of the full blocks of these tokens, all groups of a block before the next one. */
  readonly keysOf: (tokenIds: Int32Array, cacheSalt: string | undefined) => readonly BlockKey[];
  readonly isOnDevice: (key: BlockKey) => boolean;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Milliseconds since the epoch. */
  readonly epochMs: () => number;
}
