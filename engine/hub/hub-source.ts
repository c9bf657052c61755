/** A file of a Hub repository: from the cache where it is there, otherwise downloaded into it. */

import { KvEngineError } from "../errors.ts";
import { download } from "./download.ts";
import { RepoCache } from "./hub-cache.ts";
import { type HubFile, listRepo } from "./hub-client.ts";
import { type HubSpec, isSafePath } from "./model-spec.ts";
import type { OnProgress } from "./progress.ts";
import { chooseFile, noSuchFile } from "./quant.ts";
import type { HubSettings } from "./settings.ts";

export interface HubRequest extends HubSpec {
  /** Only a file with this checksum is accepted. */
  readonly sha256?: string;
}

/** The path of the file in the cache; no request is made. Undefined where it is not there. */
export async function findInHubCache(
  settings: HubSettings,
  wanted: HubRequest,
): Promise<string | undefined> {
  const cache = new RepoCache(settings, wanted.repo);
  const commit = await cache.commitOf(wanted.revision);
  if (commit === undefined) return undefined;
  const path = pick(wanted, await cache.list(commit));
  if (path === undefined) return undefined;
  if (wanted.sha256 !== undefined && (await cache.blobName(commit, path)) !== wanted.sha256)
    return undefined;
  return cache.filePath(commit, path);
}

/** Asks the Hub, downloads what is missing. Throws `model_not_found`, `unauthorized`, `download_failed`. */
export async function getFromHub(
  settings: HubSettings,
  wanted: HubRequest,
  onProgress: OnProgress,
  pauseMs: number,
): Promise<string> {
  const { repo, revision } = wanted;
  const { commit, files } = await listRepo(settings, repo, revision);
  const safe = files.filter(({ path }) => isSafePath(path));
  const paths = safe.map(({ path }) => path);
  const path = pick(wanted, paths);
  const file = safe.find((each) => each.path === path);
  if (file === undefined) throw noSuchFile(wanted, paths);
  refuseOther(wanted, file);
  const cache = new RepoCache(settings, repo);
  if (!(await cache.hasBlob(file))) {
    await download(settings, { repo, commit, file, to: cache.blobPath(file), onProgress, pauseMs });
  }
  return await cache.link(revision, commit, file);
}

function pick(wanted: HubSpec, paths: readonly string[]): string | undefined {
  return wanted.file === undefined
    ? chooseFile(paths, wanted.quant)
    : paths.find((path) => path === wanted.file);
}

/** The Hub says which bytes it has, so another file costs no download. */
function refuseOther({ repo, sha256 }: HubRequest, file: HubFile): void {
  if (sha256 === undefined || file.digest.hex === sha256) return;
  throw new KvEngineError(
    "download_failed",
    `${repo}/${file.path}: is another file: its checksum is ${file.digest.hex}, not ${sha256}`,
    {
      subject: repo,
    },
  );
}
