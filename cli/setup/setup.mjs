/** Makes the source tree runnable: the packages of package-lock.json, Bun, the native module. Does nothing twice. */

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { findBun, root, run, runScript, say, SetupError } from "./tools.mjs";

/** @returns {Promise<string>} the path of Bun's executable. */
export async function setup() {
  const bun = await installPackages();
  await buildNative(bun);
  return bun;
}

export async function installPackages() {
  if (!packagesInStep()) {
    say("Installing packages …");
    const npm = process.platform === "win32" ? "npm.cmd" : "npm";
    const result = await run(npm, [
      "ci",
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      "--loglevel=error",
    ]);
    if (result.code !== 0) throw new SetupError("`npm ci` failed; its message is above");
  }
  const bun = findBun();
  if (bun === undefined) {
    throw new SetupError(
      `there is no Bun for ${process.platform}-${process.arch} in node_modules/@oven; remove node_modules and try again`,
    );
  }
  return bun;
}

/** npm keeps a copy of what it installed; where each needed package is in it at the pinned version, nothing is to do. */
function packagesInStep() {
  const installedPath = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedPath)) return false;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedPath, "utf8")).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === "") continue;
    const there = installed[path];
    // Optional packages of other platforms are never installed.
    if (there === undefined && entry.optional) continue;
    if (there?.version !== entry.version || there?.integrity !== entry.integrity) return false;
  }
  return findBun() !== undefined;
}

const stampPath = join(root, "kernels", "target", "kvengine-native.json");

async function buildNative(bun) {
  const sources = sourcesHash();
  if (findAddon() !== undefined && readStamp() === sources) return;
  await requireCargo();
  say("Building the native module …");
  const result = await run(bun, [join(root, "kernels", "build.ts")]);
  if (result.code !== 0)
    throw new SetupError("the native module did not build; the compiler's message is above");
  mkdirSync(dirname(stampPath), { recursive: true });
  writeFileSync(stampPath, JSON.stringify({ sources }));
}

async function requireCargo() {
  try {
    const result = await run("cargo", ["--version"], { capture: true, quiet: true });
    if (result.code === 0) return;
  } catch {
    // Not found: the same advice holds as for one that does not run.
  }
  throw new SetupError(
    "Rust is needed to build the native module and `cargo` does not run; see https://rustup.rs",
  );
}

/** The path of the native module for this machine, where it is built. */
export function findAddon() {
  const folder = join(root, "kernels", "binding");
  const fits = (file) =>
    file.endsWith(".node") && file.includes(`${process.platform}-${process.arch}`);
  const file = readdirSync(folder).find(fits);
  return file === undefined ? undefined : join(folder, file);
}

function readStamp() {
  try {
    return JSON.parse(readFileSync(stampPath, "utf8")).sources;
  } catch {
    return undefined; // missing or cut off: build again
  }
}

/** Over names and contents of all that goes into the native module; outputs are left out. */
function sourcesHash() {
  const hash = createHash("sha256");
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (entry.name !== "target" && entry.name !== "tests") visit(path);
      } else if (/\.(rs|toml|lock|ts|cu|h|json)$/.test(entry.name) && entry.name !== "index.d.ts") {
        hash.update(relative(root, path)).update("\0").update(readFileSync(path)).update("\0");
      }
    }
  };
  visit(join(root, "kernels"));
  return hash.digest("hex");
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await runScript(async () => {
    await setup();
    say("Ready.");
  });
}
