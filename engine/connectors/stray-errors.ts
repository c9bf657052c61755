/**
 * Errors of outside connectors that no hook threw: in a timer, or in a promise that nothing waits for. Left alone, one would end the
 * engine's thread.
 */

import { dirname, join, sep } from "node:path";

/** Where our own code lies: in the executable, or in the source tree. */
const OWN_FOLDERS = [
  "/$bunfs/",
  ...["cli", "connectors", "engine", "kernels"].map(
    (room) => join(import.meta.dir, "../..", room) + sep,
  ),
];

/** What of a connector comes from outside. */
export interface OutsideCode {
  /** Files of outside modules; none = it is built in. */
  readonly paths: readonly string[];
}

export interface StrayErrorTakers {
  readonly ofConnector: (place: number, thrown: unknown) => void;
  /** Of our own code. */
  readonly ofEngine: (thrown: unknown) => void;
}

/** From now on no error of an outside connector ends this thread. Does nothing where all connectors are built in. */
export function watchStrayErrors(
  connectors: readonly OutsideCode[],
  { ofConnector, ofEngine }: StrayErrorTakers,
): void {
  if (connectors.every(({ paths }) => paths.length === 0)) return;
  const take = (thrown: unknown): void => {
    const owners = ownersOf(thrown, connectors);
    if (owners.length === 0) ofEngine(thrown);
    for (const place of owners) ofConnector(place, thrown);
  };
  process.on("uncaughtException", take);
  process.on("unhandledRejection", take);
}

/**
 * Places of the connectors whose code may have thrown it: those whose file or folder is in the stack; else, when the stack does not
 * show that it was ours, all that come from outside. Empty = it was ours.
 */
export function ownersOf(thrown: unknown, connectors: readonly OutsideCode[]): readonly number[] {
  const outside = connectors.flatMap(({ paths }, place) => paths.map((path) => ({ place, path })));
  const files = filesOf(thrown);
  for (const file of files) {
    const named = outside.filter(({ path }) => path === file);
    const beside = outside.filter(({ path }) => file.startsWith(dirname(path) + sep));
    const owners = named.length > 0 ? named : beside;
    if (owners.length > 0) return placesOf(owners);
  }
  const isOurs =
    files.length > 0 && files.every((file) => OWN_FOLDERS.some((own) => file.startsWith(own)));
  return isOurs ? [] : placesOf(outside);
}

function placesOf(some: readonly { readonly place: number }[]): readonly number[] {
  return [...new Set(some.map(({ place }) => place))];
}

/** Files of the stack, the innermost call first. */
function filesOf(thrown: unknown): string[] {
  try {
    const stack = thrown instanceof Error ? String(thrown.stack) : "";
    const frames = stack.matchAll(/^ +at (?:.*\()?([^()\n]+):\d+:\d+\)?$/gm);
    return Array.from(frames, ([, file]) => file ?? "").filter((file) => file.includes(sep));
  } catch {
    return [];
  }
}
