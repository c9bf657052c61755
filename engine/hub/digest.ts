/** Checksums of files, fed piece by piece. */

import { createReadStream } from "node:fs";
import type { HubFile } from "./hub-client.ts";

export class FileDigest {
  readonly #hasher: Bun.CryptoHasher;

  constructor({ digest, size }: Pick<HubFile, "digest" | "size">) {
    this.#hasher = new Bun.CryptoHasher(digest.kind === "sha256" ? "sha256" : "sha1");
    // Git hashes a blob with its kind and length before it.
    if (digest.kind === "git-sha1") this.#hasher.update(`blob ${size}\0`);
  }

  update(bytes: Uint8Array): void {
    this.#hasher.update(bytes);
  }

  /** What is in a file already. */
  async updateFrom(path: string): Promise<void> {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }))
      this.update(chunk as Uint8Array);
  }

  hex(): string {
    return this.#hasher.digest("hex");
  }
}
