/**
 * Makes the PTX that every build embeds, `kernels.ptx.gz`, and the hashes of what it was made of:
 *
 *   bun kernels/cuda/build.ts [--check]
 *
 * With `--check` nothing is written: it fails where the committed PTX is not what the sources give. What was compiled is
 * always assembled as well, by the oldest and the newest assembler: NVRTC alone lets unresolved functions pass.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile } from "./nvrtc.ts";
import { hashSources, HASHES_FILE, PTX_FILE, ptxIsStale, UNIT } from "./sources.ts";
import { installToolkit, type Toolkit } from "./toolkit.ts";

const unknown = process.argv.slice(2).find((argument) => argument !== "--check");
if (unknown !== undefined) {
  process.stderr.write(`unknown argument ${unknown}; allowed: --check\n`);
  process.exit(2);
}
const check = process.argv.includes("--check");

async function assemble(toolkit: Toolkit, ptx: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "kvengine-ptx-"));
  try {
    const file = join(folder, "kernels.ptx");
    writeFileSync(file, ptx);
    for (const ptxas of [toolkit.oldestPtxas, toolkit.newestPtxas]) {
      const command = [ptxas, "-arch=sm_80", file, "-o", join(folder, "kernels.cubin")];
      const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
      const words = await new Response(child.stderr).text();
      if ((await child.exited) !== 0) throw new Error(`${ptxas} refuses the PTX:\n${words}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const toolkit = await installToolkit();
const ptx = await compile(toolkit.nvrtcLibraries, UNIT);
await assemble(toolkit, ptx);
if (check) {
  const committed = new TextDecoder().decode(Bun.gunzipSync(readFileSync(PTX_FILE)));
  if (ptxIsStale() || committed !== ptx) {
    process.stderr.write(
      "kernels/cuda/kernels.ptx.gz is not what the sources give: run `npm run build:cuda`\n",
    );
    process.exit(1);
  }
} else {
  const packed = Bun.gzipSync(new TextEncoder().encode(ptx), { level: 9 });
  writeFileSync(PTX_FILE, packed);
  writeFileSync(HASHES_FILE, hashSources());
  const entries = ptx.match(/\.entry /g)?.length ?? 0;
  const kib = (bytes: number): string => `${Math.round(bytes / 1024)} KiB`;
  process.stderr.write(
    `${entries} kernels, ${kib(ptx.length)} of PTX, ${kib(packed.length)} packed\n`,
  );
}
