/**
 * The two requests made to a Hugging Face Hub: what is in a repository, and the bytes of a file.
 *
 * Of our own because `@huggingface/hub` (2.17) starts a cut download again from the beginning, compares no checksum, asks
 * the Hub even for a branch that is in the cache, and writes to the console.
 */

import { KvEngineError } from "../errors.ts";
import type { HubSettings } from "./settings.ts";

export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** Large files have a SHA-256, others git's SHA-1 of a blob. */
  readonly digest: { readonly kind: "sha256" | "git-sha1"; readonly hex: string };
}

export interface HubRepo {
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** The Hub must have begun to answer by then. */
const ANSWER_TIMEOUT_MS = 10_000;
const MAX_REDIRECTS = 8;
const MAX_LISTING_BYTES = 64 << 20;
const COMMIT = /^[0-9a-f]{40}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Throws `model_not_found`, `unauthorized` or `download_failed`, each with what to do. */
export async function listRepo(
  settings: HubSettings,
  repo: string,
  revision: string,
): Promise<HubRepo> {
  const url = `${settings.endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const response = await request(settings, url, repo, {});
  if (!response.ok) throw await refusal(settings, response, repo);
  const bytes = await readWhole(response, repo);
  return parseListing(bytes, repo);
}

/** The file's bytes from `from` on: status 206, or 200 where the server begins at the beginning; other ones as they are. */
export async function requestFile(
  settings: HubSettings,
  {
    repo,
    commit,
    path,
    from,
    signal,
  }: {
    readonly repo: string;
    readonly commit: string;
    readonly path: string;
    readonly from: number;
    readonly signal: AbortSignal;
  },
): Promise<Response> {
  const url = `${settings.endpoint}/${repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
  // Without it some servers compress, and offsets would count compressed bytes.
  const headers: Record<string, string> = { "accept-encoding": "identity" };
  if (from > 0) headers["range"] = `bytes=${from}-`;
  const response = await request(settings, url, repo, headers, signal);
  const permanent =
    response.status >= 400 && response.status < 500 && ![408, 416, 429].includes(response.status);
  if (permanent) throw await refusal(settings, response, `${repo}/${path}`);
  return response;
}

/** Follows redirects itself: the token goes to the Hub and to nobody it sends us to. */
async function request(
  settings: HubSettings,
  start: string,
  subject: string,
  headers: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<Response> {
  const hub = new URL(settings.endpoint).origin;
  let url = new URL(start);
  for (let i = 0; i <= MAX_REDIRECTS; i++) {
    const own: Record<string, string> = { "user-agent": "kvengine", ...headers };
    if (settings.token !== undefined && url.origin === hub)
      own["authorization"] = `Bearer ${settings.token}`;
    const response = await answerOf(url, own, subject, signal);
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    await response.body?.cancel();
    url = new URL(location, url);
  }
  throw new KvEngineError(
    "download_failed",
    `${subject}: ${settings.endpoint} redirects in a circle`,
    { subject },
  );
}

async function answerOf(
  url: URL,
  headers: Record<string, string>,
  subject: string,
  signal?: AbortSignal,
): Promise<Response> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ANSWER_TIMEOUT_MS);
  try {
    const both = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]);
    return await fetch(url, { headers, redirect: "manual", signal: both });
  } catch (cause) {
    const why = late.signal.aborted
      ? `no answer for ${ANSWER_TIMEOUT_MS / 1000} s`
      : (cause as Error).message;
    throw new KvEngineError(
      "download_failed",
      `${subject}: ${url.origin} cannot be reached: ${why}`,
      {
        subject,
        hint: "check the network and the proxy; HF_ENDPOINT names another Hub",
        cause,
      },
    );
  } finally {
    clearTimeout(timer);
  }
}

async function readWhole(response: Response, subject: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > MAX_LISTING_BYTES)
      throw nonsense(subject, `is longer than ${MAX_LISTING_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** `{sha, siblings: [{rfilename, size, blobId, lfs?: {sha256, size}}]}` */
function parseListing(bytes: Uint8Array, repo: string): HubRepo {
  let listing: unknown;
  try {
    listing = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw nonsense(repo, "is not JSON", cause);
  }
  const { sha, siblings } = (listing ?? {}) as {
    readonly sha?: unknown;
    readonly siblings?: unknown;
  };
  if (typeof sha !== "string" || !COMMIT.test(sha)) throw nonsense(repo, "has no commit");
  if (!Array.isArray(siblings)) throw nonsense(repo, "has no files");
  return { commit: sha, files: siblings.map(toFile).filter((file) => file !== undefined) };
}

/** Undefined for an entry without the numbers to check a download with. */
function toFile(entry: unknown): HubFile | undefined {
  const { rfilename, size, blobId, lfs } = (entry ?? {}) as Readonly<Record<string, unknown>>;
  const { sha256 } = (lfs ?? {}) as { readonly sha256?: unknown };
  if (
    typeof rfilename !== "string" ||
    typeof size !== "number" ||
    !Number.isSafeInteger(size) ||
    size < 0
  )
    return undefined;
  if (typeof sha256 === "string" && SHA256.test(sha256))
    return { path: rfilename, size, digest: { kind: "sha256", hex: sha256 } };
  if (typeof blobId === "string" && COMMIT.test(blobId))
    return { path: rfilename, size, digest: { kind: "git-sha1", hex: blobId } };
  return undefined;
}

function nonsense(repo: string, problem: string, cause?: unknown): KvEngineError {
  return new KvEngineError("download_failed", `${repo}: the Hub's list of its files ${problem}`, {
    subject: repo,
    cause,
  });
}

async function refusal(
  settings: HubSettings,
  response: Response,
  subject: string,
): Promise<KvEngineError> {
  await response.body?.cancel();
  const { status } = response;
  const what = `${subject}: ${settings.endpoint} answers ${status}`;
  if (status === 401 || status === 403) {
    const page = `${settings.endpoint}/${subject}`;
    return settings.token === undefined
      ? new KvEngineError(
          "unauthorized",
          `${what}: there is no such repository, or it is not open to all`,
          {
            subject,
            hint: `check the name; for a private or gated one set HF_TOKEN, and accept its terms at ${page}`,
          },
        )
      : new KvEngineError("unauthorized", `${what}: the token in HF_TOKEN may not read it`, {
          subject,
          hint: `accept its terms at ${page}, or use a token that may read it`,
        });
  }
  if (status === 404) {
    return new KvEngineError(
      "model_not_found",
      `${what}: there is no such repository, revision or file`,
      {
        subject,
        hint: "check the spelling: hf:org/repo[:quant|/file.gguf]",
      },
    );
  }
  const hint =
    status === 429 ? "too many requests: wait a while, or set HF_TOKEN" : "try again later";
  return new KvEngineError("download_failed", what, { subject, hint });
}
