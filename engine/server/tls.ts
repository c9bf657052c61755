/** Certificate and key of TLS, and their files when they change. */

import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { createSecureContext } from "node:tls";
import { KvEngineError, toKvEngineError } from "../errors.ts";

export interface TlsFiles {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
}

export interface Tls {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

/** Throws `bad_config` for a file that cannot be read and for a key that is not the certificate's. */
export async function readTls(files: TlsFiles): Promise<Tls> {
  const [cert, key] = await Promise.all([
    readPem(files.cert, "--ssl-certfile"),
    readPem(files.key, "--ssl-keyfile"),
  ]);
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw new KvEngineError(
      "bad_config",
      `${files.cert} and ${files.key} are no certificate and its key`,
      { subject: "--ssl-certfile", cause },
    );
  }
  return { cert, key };
}

async function readPem(path: string, subject: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new KvEngineError("bad_config", `${path} cannot be read`, { subject, cause });
  }
}

/** Files are written one after the other: this long after the last change they are read. */
const SETTLE_MS = 200;

/**
 * Tells of each new pair, and of pairs that are none, after which the old one stays. Folders are watched: a secret of Kubernetes changes by
 * a link beside the file.
 */
export function watchTls(
  files: TlsFiles,
  before: Tls,
  told: { onChange(tls: Tls): void; onTrouble(error: KvEngineError): void },
): () => void {
  let last = before;
  let timer: NodeJS.Timeout | undefined;
  const read = async (): Promise<void> => {
    try {
      const tls = await readTls(files);
      if (tls.cert === last.cert && tls.key === last.key) return;
      last = tls;
      told.onChange(tls);
    } catch (thrown) {
      told.onTrouble(toKvEngineError(thrown));
    }
  };
  const folders = new Set([dirname(files.cert), dirname(files.key)]);
  const watchers: FSWatcher[] = [...folders].map((folder) =>
    watch(folder, () => {
      clearTimeout(timer);
      timer = setTimeout(() => void read(), SETTLE_MS);
    }),
  );
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
}
