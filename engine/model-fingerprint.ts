/**
 * What a KV page's bytes depend on beside its key: the weights, how pages are laid out, the backend with its instruction set, and the
 * version of its numbers. Pages that are kept beyond the process are this model's where the fingerprint is equal, and only there.
 */

import { createReadStream } from "node:fs";

/** Raised when a kernel computes other bits than before: what was stored by the old one counts no more. */
const NUMERICS_VERSION = 1;

export interface FingerprintParts {
  /** Files of the weights. */
  readonly files: readonly string[];
  /** See `HostPages.layout`. */
  readonly pageLayout: string;
  /** With its instruction set: `cpu/avx2`. */
  readonly backend: string;
  /** Of the block hashes: another one names other blocks. */
  readonly prefixHashSeed: string;
}

/** Reads the files once, some hundred MB a second or more. Rejects with what reading them throws. */
export async function modelFingerprint(parts: FingerprintParts): Promise<string> {
  const { files, pageLayout, backend, prefixHashSeed } = parts;
  const weights: string[] = [];
  for (const file of files) {
    const hasher = new Bun.CryptoHasher("sha256");
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }))
      hasher.update(chunk as Uint8Array);
    weights.push(hasher.digest("hex"));
  }
  return JSON.stringify({ NUMERICS_VERSION, weights, pageLayout, backend, prefixHashSeed });
}
