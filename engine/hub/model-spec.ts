/** What a user writes for a model: a file, an alias, or `hf:org/repo[:quant|/file.gguf]`. Touches no disk and no network. */

import { KvEngineError } from "../errors.ts";

export type ModelSpec = FileSpec | AliasSpec | HubSpec;

export interface FileSpec {
  readonly kind: "file";
  readonly path: string;
}

export interface AliasSpec {
  readonly kind: "alias";
  readonly alias: string;
}

export interface HubSpec {
  readonly kind: "hub";
  /** `org/name`. */
  readonly repo: string;
  /** Branch or commit. */
  readonly revision: string;
  /** A path in the repository; otherwise one is chosen by `quant`. */
  readonly file?: string;
  /** As it stands in file names (`Q4_K_M`), any case. */
  readonly quant?: string;
}

const HUB_PREFIX = "hf:";
const HUB = /^(?<repo>[\w-][\w.-]*\/[\w-][\w.-]*)(?::(?<quant>[\w-]+)|\/(?<file>.+))?$/;

/** Throws `invalid_request` for a `hf:` that is none. Whatever is neither that nor an alias is a path. */
export function parseModelSpec(spec: string, aliases: readonly string[]): ModelSpec {
  if (spec === "") throw malformed(spec, "is empty");
  if (aliases.includes(spec)) return { kind: "alias", alias: spec };
  if (!spec.startsWith(HUB_PREFIX)) return { kind: "file", path: spec };
  const { repo, quant, file } = HUB.exec(spec.slice(HUB_PREFIX.length))?.groups ?? {};
  if (repo === undefined)
    throw malformed(spec, "is not hf:org/repo, hf:org/repo:quant or hf:org/repo/file.gguf");
  if (file !== undefined && !isSafePath(file))
    throw malformed(spec, "names no .gguf file inside the repository");
  return {
    kind: "hub",
    repo,
    revision: "main",
    ...(file === undefined ? {} : { file }),
    ...(quant === undefined ? {} : { quant }),
  };
}

/** Whether a path in a repository stays inside it, on every system, and is a model file. */
export function isSafePath(path: string): boolean {
  const parts = path.split("/");
  return (
    path.toLowerCase().endsWith(".gguf") &&
    !/[\\:\0]/.test(path) &&
    parts.every((part) => !["", ".", ".."].includes(part))
  );
}

function malformed(spec: string, problem: string): KvEngineError {
  return new KvEngineError("invalid_request", `model ${JSON.stringify(spec)} ${problem}`, {
    subject: "model",
    hint: "examples: ./model.gguf, hf:org/repo, hf:org/repo:Q4_K_M, hf:org/repo/model.gguf",
  });
}
