/** The CUDA sources, and whether the committed PTX was made from them. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here: string = fileURLToPath(new URL(".", import.meta.url));

/** The translation unit that includes all others. */
export const UNIT: string = join(here, "..", "core", "src", "cuda", "kernels.cu");
/** The PTX that is embedded. */
export const PTX_FILE: string = join(here, "kernels.ptx.gz");
/** What it was made of. */
export const HASHES_FILE: string = join(here, "kernels.sha256");

/** A line `HASH  PATH` for each source, in the order of the paths, which count from `kernels`. */
export function hashSources(): string {
  const kernels = join(here, "..");
  const paths = [...new Bun.Glob("core/src/**/*.{cu,cuh}").scanSync(kernels)];
  paths.sort((a, b) => (a < b ? -1 : 1));
  const lines = [...paths, "cuda/nvrtc.ts", "cuda/requirements.txt"].map((path) => {
    const hash = createHash("sha256")
      .update(readFileSync(join(kernels, path)))
      .digest("hex");
    return `${hash}  ${path}\n`;
  });
  return lines.join("");
}

/** Whether a source has changed since the PTX was made. */
export function ptxIsStale(): boolean {
  return readFileSync(HASHES_FILE, "utf8") !== hashSources();
}
