/**
 * What a KV page's bytes depend on beside its key: the weights, how pages are laid out, the backend with its instruction set, and the
 * version of its numbers. Pages that are kept beyond the process are this model's where the fingerprint is equal, and only there.
 */

/**
 * Raised when a kernel computes other bits than before: what was stored by the old one counts no more.
 * `tests/native/numerics-version.test.ts` holds the bits of each version.
 */
export const NUMERICS_VERSION = 1;

/** Bytes that are hashed at a time. */
const PIECE = 2 ** 30;

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

/**
 * Reads the files once: some 20 ms for 100 MB that the system has in memory. The digest is xxh3's, as that of pages is: it tells models
 * apart, and keeps nobody out who may choose the model anyway. Throws what mapping them throws.
 */
export function modelFingerprint(parts: FingerprintParts): string {
  const { files, pageLayout, backend, prefixHashSeed } = parts;
  const weights = files.map((file) => digestOf(Bun.mmap(file)));
  return JSON.stringify({ NUMERICS_VERSION, weights, pageLayout, backend, prefixHashSeed });
}

/** Length and digest, each piece's with that of the one before as its seed. */
export function digestOf(bytes: Uint8Array, piece: number = PIECE): string {
  let digest = 0n;
  for (let at = 0; at < bytes.length; at += piece)
    digest = Bun.hash.xxHash3(bytes.subarray(at, at + piece), digest);
  return `${bytes.length}-${digest.toString(16)}`;
}
