/** What the figures were measured on, in words; no name and no folder of the machine is among them. */

import { cpus, release, totalmem, type } from "node:os";
import { basename, dirname, join } from "node:path";
import { cpuFeatures } from "../../../engine/runner/native.ts";
import { formatBytes } from "../../output.ts";
import { VERSION } from "../../version.ts";

/** @param programs of peers, by name. */
export function describeMachine(
  modelPath: string,
  programs: ReadonlyMap<string, string>,
): Record<string, string> {
  const { model, ...features } = cpuFeatures();
  const sets = Object.entries(features).flatMap(([name, there]) => (there === true ? name : []));
  const peers = [...programs].map(([name, path]) => [name, versionOf(name, path)]);
  return {
    processor: model === "" ? (cpus()[0]?.model ?? "unknown") : model,
    "instruction sets": sets.join(", "),
    cores: String(cpus().length),
    memory: formatBytes(totalmem()),
    system: `${type()} ${release()}`,
    model: `${basename(modelPath)}, ${formatBytes(Bun.file(modelPath).size)}`,
    kvengine: VERSION,
    ...Object.fromEntries(peers),
  };
}

/** The line of `--version` that has it. */
function versionOf(name: string, path: string): string {
  const program = name === "llama.cpp" ? join(path, "llama-server") : path;
  try {
    const { stdout, stderr } = Bun.spawnSync([program, "--version"]);
    const lines = `${stdout.toString()}\n${stderr.toString()}`
      .split("\n")
      .map((line) => line.trim());
    return lines.find((line) => /version|\d+\.\d+/.test(line)) ?? "unknown version";
  } catch {
    // A folder of llama.cpp without its server is enough for the grid.
    return "unknown version";
  }
}

/** A command line without the folders of this machine: they say nothing to others. */
export function withoutFolders(words: readonly string[]): string[] {
  const [program = "", script = ""] = words;
  const isBun = basename(program).startsWith("bun") && basename(script) === "main.ts";
  const rest = isBun ? ["kvengine", ...words.slice(2)] : words;
  return rest.map((word) =>
    word.startsWith("/") && dirname(word) !== "/" ? basename(word) : word,
  );
}
