/**
 * Loads the native addon. A compiled executable carries it inside and must put it into a file first: Bun writes it to the
 * temporary folder; where that is not writable or forbids execution, the next place that allows both is taken.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type * as binding from "../../kernels/binding/index.js";
import { KvEngineError, messageOf } from "../errors.ts";

export type Binding = typeof binding;

/** Folder for the addon, tried before any other. */
const FOLDER_VARIABLE = "KVENGINE_TMPDIR";

/** Throws `unsupported`, with every place tried, when the addon cannot be loaded. */
export async function loadAddon(): Promise<Binding> {
  if (!Bun.isStandaloneExecutable) return loadBuilt();
  const tried: string[] = [];
  const chosen = process.env[FOLDER_VARIABLE] ?? "";
  if (chosen === "") {
    try {
      return requireBinding();
    } catch (thrown) {
      tried.push(`the temporary folder: ${messageOf(thrown)}`);
    }
  }
  const file = Bun.embeddedFiles.find((blob) => (blob as File).name.endsWith(".node"));
  if (file === undefined) {
    throw new KvEngineError(
      "unsupported",
      `the native module cannot be loaded: ${tried.join("; ")}`,
    );
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  for (const folder of [chosen, ...otherFolders()]) {
    if (folder === "") continue;
    try {
      return loadFrom(folder, bytes);
    } catch (thrown) {
      tried.push(`${folder}: ${messageOf(thrown)}`);
    }
  }
  throw new KvEngineError(
    "unsupported",
    `no folder can hold the native module: ${tried.join("; ")}`,
    {
      subject: FOLDER_VARIABLE,
      hint: `set ${FOLDER_VARIABLE} to a folder that can be written and may hold executables`,
    },
  );
}

function loadBuilt(): Binding {
  try {
    return requireBinding();
  } catch (thrown) {
    throw new KvEngineError(
      "unsupported",
      `the native module cannot be loaded: ${messageOf(thrown)}`,
      {
        hint: "build it with `bun kernels/build.ts`",
        cause: thrown,
      },
    );
  }
}

/** Not an import: a compiled executable must be able to go on when this fails. */
function requireBinding(): Binding {
  return require("../../kernels/binding/index.js") as Binding;
}

function otherFolders(): string[] {
  const { XDG_RUNTIME_DIR = "", XDG_CACHE_HOME = "" } = process.env as Record<
    string,
    string | undefined
  >;
  const home = homedir();
  return [
    XDG_RUNTIME_DIR,
    XDG_CACHE_HOME,
    home === "" ? "" : join(home, ".cache"),
    home,
    "/dev/shm",
    "/var/tmp",
    dirname(process.execPath),
    process.cwd(),
  ];
}

/** Loads the addon from a file that is gone again when this returns: the mapping stays. */
function loadFrom(folder: string, bytes: Uint8Array): Binding {
  const own = mkdtempSync(join(folder, "kvengine-"));
  try {
    const path = join(own, "kvengine.node");
    writeFileSync(path, bytes, { mode: 0o700 });
    const module = { exports: {} };
    process.dlopen(module, path);
    return module.exports as Binding;
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}
