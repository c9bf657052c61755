/** How far a long-running part of getting a model is. Counted in bytes. */
export interface Progress {
  readonly label: string;
  readonly done: number;
  /** Undefined while it is not known. */
  readonly total: number | undefined;
}

export type OnProgress = (progress: Progress) => void;
