/** What is asked about pins and what comes back: plain data, which crosses from the HTTP side. */

/** `owner`: pins are seen and ended by those who have made them. */
export type PinQuery = { readonly owner: string } & (
  | {
      readonly kind: "add";
      /** Id of the pin, unique. */
      readonly pin: string;
      /** `GenerateRequest.id` of a request that is remembered. */
      readonly request: string;
      /** Leading tokens of its prompt; left out = all. */
      readonly tokens?: number;
      readonly ttlMs: number;
      /** One pin for the same content, which is kept to the later end: its id is not `pin`. */
      readonly renews?: boolean;
    }
  | { readonly kind: "remove"; readonly pin: string }
  | { readonly kind: "list" }
);

export interface PinFacts {
  readonly id: string;
  /** Those of the prompt's leading tokens that are in full blocks. */
  readonly numTokens: number;
  /** Pages of the host that they fill. */
  readonly numPages: number;
  /** Of these, how many are where now; one may be in both. */
  readonly inHost: number;
  readonly onDisk: number;
  /** Milliseconds until it ends. */
  readonly msLeft: number;
}

export interface PinAnswer {
  /** The one that was made or ended, or all of them. */
  readonly pins: readonly PinFacts[];
  /** Pages that all pins may keep together, and those that they do. */
  readonly budget: number;
  readonly used: number;
}
