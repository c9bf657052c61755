/** A copy of the repository that stays, for faults in what is compiled: of a file that has not changed nothing is built again. */

import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { buildCoreTests } from "../cuda-emulator/core-tests.ts";
import { type Fault, filesOf, plantSwitched } from "./plan.ts";

export interface CopyOptions {
  /** The repository. */
  readonly root: string;
  /** The copy's folder; made where there is none. */
  readonly copy: string;
  /** Patterns of what is built and needed, from the root. */
  readonly built: readonly string[];
  /** Folders that are linked where there is none, from the root. */
  readonly links: readonly string[];
}

/** Brings the copy up to date: tracked and new files, and what was built. What is compiled in the copy stays. */
export function updateCopy({ root, copy, built, links }: CopyOptions): void {
  const listed = Bun.spawnSync(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    { cwd: root },
  );
  if (!listed.success) throw new Error(`git ls-files: ${listed.stderr.toString()}`);
  const paths = [
    ...filesOf(listed.stdout.toString()),
    ...built.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(root)]),
  ].filter((path) => existsSync(join(root, path)));
  for (const path of paths) {
    const [from, to] = [readFileSync(join(root, path)), join(copy, path)];
    // A file that stays as it is keeps its time: cargo goes by that.
    if (existsSync(to) && readFileSync(to).equals(from)) continue;
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, from);
  }
  const known = new Set(paths);
  for (const path of new Bun.Glob("**/*").scanSync({ cwd: copy, dot: true }))
    if (!known.has(path) && !path.startsWith("kernels/target/")) rmSync(join(copy, path));
  for (const path of links)
    if (!existsSync(join(copy, path))) symlinkSync(join(root, path), join(copy, path));
}

/**
 * Builds the core's tests of a copy with all of these faults, of which `KVENGINE_FAULT` says the one that is there, if any. Answers the
 * program's path. Throws what does not go.
 * @param target where cargo builds; what the core depends on is taken from the repository's own.
 */
export async function buildWithFaults(
  { root, copy }: CopyOptions,
  target: string,
  faults: readonly Fault[],
): Promise<string> {
  for (const fault of faults) {
    const path = join(copy, fault.file);
    const planted = plantSwitched(fault, readFileSync(path, "utf8"));
    if ("why" in planted) throw new Error(`${fault.name}: ${planted.why}`);
    writeFileSync(path, planted.text);
  }
  const release = join(root, "kernels", "target", "release");
  if (!existsSync(target) && existsSync(release))
    cpSync(release, join(target, "release"), { recursive: true, preserveTimestamps: true });
  return buildCoreTests(copy, target);
}
