/** Python's `openai` package, installed once beside node_modules' other caches, for programs of `tests/support/python/`. */

import { existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dir, "python");
const REQUIREMENTS = join(FOLDER, "requirements.txt");
const CACHE = join(import.meta.dir, "../../node_modules/.cache");

/** Without Python there is nothing to test. */
export const HAS_PYTHON: boolean = Bun.which("python3") !== null;

/** The folder with the packages of `requirements.txt`. */
async function install(): Promise<string> {
  const hash = Bun.hash(await Bun.file(REQUIREMENTS).text()).toString(16);
  const folder = join(CACHE, `python-openai-${hash}`);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.${process.pid}`;
  const pip = ["python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  const child = Bun.spawn([...pip, "--no-deps", "--target", unfinished, "-r", REQUIREMENTS], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const [code, said] = await Promise.all([child.exited, child.stderr.text()]);
  if (code !== 0) throw new Error(`pip ended with ${code}: ${said}`);
  try {
    renameSync(unfinished, folder);
  } catch (error) {
    // Another test process was faster.
    rmSync(unfinished, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

/** What a program says on standard output. Throws what it says on standard error where it fails. */
export async function runPython(
  program: string,
  args: readonly string[],
  stdin = "",
): Promise<string> {
  const child = Bun.spawn(["python3", join(FOLDER, program), ...args], {
    env: { ...process.env, PYTHONPATH: await install(), PYTHONDONTWRITEBYTECODE: "1" },
    stdin: new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [code, said, errors] = await Promise.all([
    child.exited,
    child.stdout.text(),
    child.stderr.text(),
  ]);
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${errors}`);
  return said;
}
