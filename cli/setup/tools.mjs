/** What every set-up script needs: the root, finding Bun, running programs. Plain Node with built-ins only. */

import { spawn } from "node:child_process";
import { chmodSync, existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Thrown for what the user has to mend; printed without a stack. */
export class SetupError extends Error {}

/** Prints one line of progress on standard error, so that standard output stays the command's own. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/**
 * The path of Bun's real executable. npm's `bun` package only holds a stub that an install script replaces, and
 * install scripts are off here, so the platform package is used as it is.
 */
export function findBun() {
  for (const name of bunPackages()) {
    const path = join(
      root,
      "node_modules",
      "@oven",
      name,
      "bin",
      process.platform === "win32" ? "bun.exe" : "bun",
    );
    if (!existsSync(path)) continue;
    if (process.platform !== "win32" && (statSync(path).mode & 0o111) === 0) chmodSync(path, 0o755);
    return path;
  }
  return undefined;
}

function bunPackages() {
  const os = process.platform === "win32" ? "windows" : process.platform;
  const cpu = process.arch === "arm64" ? "aarch64" : process.arch;
  const musl = process.platform === "linux" && isMusl() ? "-musl" : "";
  const name = `bun-${os}-${cpu}${musl}`;
  return cpu === "x64" && !hasAvx2() ? [`${name}-baseline`, name] : [name, `${name}-baseline`];
}

function isMusl() {
  return !process.report.getReport().header.glibcVersionRuntime;
}

function hasAvx2() {
  if (process.platform !== "linux") return true;
  return /\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
}

/**
 * Runs a program in the root folder to its end. `capture` collects what it prints (and still shows it unless `quiet`).
 * Standard input is closed: nothing here asks questions.
 * @returns {Promise<{ code: number, output: string, stdout: string }>} `output` has both streams, as they came.
 */
export function run(command, args, { env = {}, capture = false, quiet = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", capture ? "pipe" : "inherit", capture ? "pipe" : "inherit"],
    });
    let output = "";
    let stdout = "";
    const collect = (chunk) => {
      output += chunk;
      if (!quiet) process.stderr.write(chunk);
    };
    child.stderr?.setEncoding("utf8").on("data", collect);
    child.stdout?.setEncoding("utf8").on("data", (chunk) => {
      stdout += chunk;
      collect(chunk);
    });
    child.on("error", (error) => reject(new SetupError(`cannot run ${command}: ${error.message}`)));
    child.on("close", (code, signal) =>
      resolve({ code: code ?? (signal === null ? 1 : 128), output, stdout }),
    );
  });
}

/** Runs `main`, prints a SetupError as one line, and sets the exit code to what `main` returns. */
export async function runScript(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    say(error instanceof SetupError ? `error: ${error.message}` : String(error?.stack ?? error));
    process.exitCode = 1;
  }
}
