/** NVIDIA's compilers as pinned pip wheels (`requirements.txt`), installed below `kernels/target`. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Where the tools are. */
export interface Toolkit {
  /** The folder with NVRTC 12.0's two libraries. */
  readonly nvrtcLibraries: string;
  /** The assembler of CUDA 12.0: what it refuses, a driver of that time refuses. */
  readonly oldestPtxas: string;
  readonly newestPtxas: string;
  readonly cuobjdump: string;
  /** The folder of `nvdisasm`, which cuobjdump starts. */
  readonly programs: string;
  /** The folder of `cuda_fp16.h` and its like. */
  readonly headers: string;
}

const here: string = fileURLToPath(new URL(".", import.meta.url));
const requirements: string = join(here, "requirements.txt");
const folder: string = join(here, "..", "target", "cuda-toolkit");

/** Installs the wheels unless those of this list are there. Throws with pip's words. */
export async function installToolkit(): Promise<Toolkit> {
  const wanted = createHash("sha256").update(readFileSync(requirements)).digest("hex");
  const stamp = join(folder, "requirements.sha256");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    await pip();
    writeFileSync(stamp, wanted);
  }
  const nvidia = join(folder, "nvidia");
  const programs = join(nvidia, "cu13", "bin");
  return {
    nvrtcLibraries: join(nvidia, "cuda_nvrtc", "lib"),
    oldestPtxas: join(nvidia, "cuda_nvcc", "bin", "ptxas"),
    newestPtxas: join(programs, "ptxas"),
    cuobjdump: join(programs, "cuobjdump"),
    programs,
    headers: join(nvidia, "cuda_runtime", "include"),
  };
}

async function pip(): Promise<void> {
  const options = ["--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check"];
  const command = ["python3", "-m", "pip", "install", ...options];
  const child = Bun.spawn([...command, "--target", folder, "-r", requirements], {
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
  });
  const words = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) {
    throw new Error(
      `pip could not install ${requirements}: ${words.trim()}\nThe committed PTX serves every build without it.`,
    );
  }
}
