/** dist/kvengine, built anew when a source is younger. */

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

/** The path of an executable that has all of today's sources in it. Throws what the build said when it fails. */
export async function currentExecutable(): Promise<string> {
  const path = join(ROOT, "dist", "kvengine");
  if (!existsSync(path) || statSync(path).mtimeMs < newestSource()) {
    const build = Bun.spawn(["node", join(ROOT, "cli/setup/build.mjs")], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stderr, code] = await Promise.all([build.stderr.text(), build.exited]);
    if (code !== 0) throw new Error(`the executable does not build: ${stderr}`);
  }
  return path;
}

function newestSource(): number {
  const patterns = [
    "{cli,engine,connectors}/**/*.{ts,mjs}",
    "kernels/binding/*.{js,node}",
    "package-lock.json",
  ];
  const times = patterns.flatMap((pattern) =>
    [...new Bun.Glob(pattern).scanSync({ cwd: ROOT, absolute: true })].map(
      (path) => statSync(path).mtimeMs,
    ),
  );
  return Math.max(...times);
}
