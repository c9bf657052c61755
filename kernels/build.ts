/**
 * The one way to build the native module:
 *
 *   bun kernels/build.ts [--quiet]
 *
 * Writes `binding/kvengine.PLATFORM.node`, in release mode, and `binding/index.d.ts`, which is generated from the Rust sources. Cargo
 * decides what has to be done. With `--quiet` nothing is printed unless the build fails.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ptxIsStale } from "./cuda/sources.ts";

const kernels: string = fileURLToPath(new URL(".", import.meta.url));
const root: string = join(kernels, "..");

const known = new Set(["--quiet"]);
const unknown = process.argv.slice(2).find((argument) => !known.has(argument));
if (unknown !== undefined) {
  process.stderr.write(`unknown argument ${unknown}; allowed: ${[...known].join(" ")}\n`);
  process.exit(2);
}
const quiet: boolean = process.argv.includes("--quiet");

if (ptxIsStale()) {
  process.stderr.write(
    "kernels/cuda/kernels.ptx.gz is older than its sources: run `npm run build:cuda`\n",
  );
  if (process.env["CI"] !== undefined) process.exit(1);
}

const options: readonly string[] = [
  "--release",
  "--platform",
  "--no-js",
  "--no-const-enum",
  ...["--cwd", kernels],
  ...["--manifest-path", "Cargo.toml"],
  ...["--package", "kvengine_binding"],
  ...["--package-json-path", "../package.json"],
  ...["--config-path", "binding/napi.json"],
  ...["--output-dir", "binding"],
];
const build = Bun.spawn(
  [process.execPath, join(root, "node_modules/@napi-rs/cli/cli.mjs"), "build", ...options],
  {
    cwd: kernels,
    stdin: "ignore",
    stdout: quiet ? "pipe" : 2,
    stderr: quiet ? "pipe" : "inherit",
  },
);
const output: string[] = await Promise.all(
  [build.stdout, build.stderr].map(async (stream) =>
    stream instanceof ReadableStream ? await stream.text() : "",
  ),
);
const code: number = await build.exited;
if (code !== 0) process.stderr.write(output.join(""));
process.exitCode = code;
