/**
 * Names of files and folders that one process writes, so that several may get the same model at once, and a later one can
 * go on with what a dead one left: `<stem>.<host>-<process id>.<ending>`.
 */

import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

const HOST = hostname().replaceAll(/[^A-Za-z0-9]/g, "_");

/** Ours alone, as long as this process lives. */
export function ownName(stem: string, ending: string): string {
  return `${stem}.${HOST}-${process.pid}.${ending}`;
}

/**
 * Paths in `folder` of this stem and ending whose writer is gone or is this process. Those of other machines, which may
 * share the folder, are never among them: whether their writer lives cannot be seen.
 */
export async function findAbandoned(
  folder: string,
  stem: string,
  ending: string,
): Promise<string[]> {
  const shape = new RegExp(
    `^${RegExp.escape(`${stem}.${HOST}-`)}(\\d+)${RegExp.escape(`.${ending}`)}$`,
  );
  const names = await readdir(folder);
  return names
    .filter((name) => {
      const pid = Number(shape.exec(name)?.[1] ?? 0);
      return pid > 0 && (pid === process.pid || !isAlive(pid));
    })
    .map((name) => join(folder, name));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
