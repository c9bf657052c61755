/**
 * Builds the emulated driver, the kernels of `kernels/core` for the host, and the scenarios:
 * `bun tests/cuda-emulator/build.ts [FLAVOUR]...`.
 * What has not changed since is not built again. Everything lies below `kernels/target/cuda-emulator`.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { PTX_FILE } from "../../kernels/cuda/sources.ts";
import { installToolkit } from "../../kernels/cuda/toolkit.ts";
import { translate } from "./ptx.ts";

const ROOT: string = join(import.meta.dir, "..", "..");
const FOLDER: string = join(ROOT, "kernels", "target", "cuda-emulator");

/** How the kernels were compiled: each access is checked, or as fast as it goes; what the scenarios launch; the PTX that ships. */
export type Flavour = "checked" | "fast" | "scenarios" | "ptx";

const FLAVOURS: readonly Flavour[] = ["checked", "fast", "scenarios", "ptx"];

/** The emulator runs where it can switch stacks: Linux on x86-64. */
export const CAN_EMULATE: boolean = process.platform === "linux" && process.arch === "x64";

/** Environment in which a program finds the emulated driver, of this repository or of a copy. */
export function emulated(
  flavour: Flavour,
  settings = "",
  root: string = ROOT,
): Record<string, string> {
  const folder = join(root, relative(ROOT, FOLDER), flavour);
  return { LD_LIBRARY_PATH: folder, CUDA_EMULATOR: settings };
}

/** The scenarios' program. */
export const SCENARIOS: string = join(FOLDER, "scenarios", "scenarios");

const COMMON = [
  "-std=c++20",
  "-fPIC",
  "-Wall",
  "-Wextra",
  "-Wno-unknown-pragmas",
  "-ffp-contract=off",
];
/** The hooks of `emulator/hooks.cpp` before every access; no run time of a sanitizer is linked. */
const CHECKED = [
  "-O1",
  "-g1",
  "-fsanitize=thread,alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow",
  "--param=tsan-instrument-func-entry-exit=0",
];
const FAST = ["-O3", "-march=native"];
/** As the checked ones; numbers of PTX wrap. */
const TRANSLATED = [
  "-O1",
  "-g1",
  "-w",
  "-fsanitize=thread,alignment",
  "--param=tsan-instrument-func-entry-exit=0",
];

interface Unit {
  /** From the root of the repository, as all paths that a compiler sees: a copy of it is served by what was built here. */
  readonly source: string;
  readonly flags: readonly string[];
}

function files(pattern: string): string[] {
  return [...new Bun.Glob(pattern).scanSync(ROOT)].toSorted();
}

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const digest = (text: string): string =>
  createHash("sha256").update(text).digest("hex").slice(0, 16);

async function compiler(command: readonly string[]): Promise<void> {
  const child = Bun.spawn(["g++", ...command], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const words = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`g++ ${command.join(" ")}\n${words}`);
}

/** Written under another name first: a build that was broken off leaves no half file. */
async function make(path: string, command: readonly string[]): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}`;
  await compiler([...command, "-o", draft]);
  renameSync(draft, path);
}

/** The file, what it includes by a path from where it lies, and what that includes. */
function withIncluded(path: string, found: Set<string> = new Set()): Set<string> {
  if (found.has(path)) return found;
  found.add(path);
  for (const [, name] of read(path).matchAll(/^#include "([^"]+)"/gm)) {
    const included = join(dirname(path), name ?? "");
    if (existsSync(join(ROOT, included))) withIncluded(included, found);
  }
  return found;
}

/** Objects of the units, in order; their names tell what they were made of. `headers` are those of all units. */
async function compile(
  units: readonly Unit[],
  headers: string,
  used: Set<string>,
): Promise<string[]> {
  const objects = units.map(({ source, flags }) => {
    const texts = [...withIncluded(source)].map(read);
    const content = digest([headers, ...texts, ...flags].join("\0"));
    const name = source.replaceAll("/", "-");
    return join(FOLDER, "objects", `${name}-${content}.o`);
  });
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < units.length; i = next++) {
      const [unit, object] = [units[i] as Unit, objects[i] as string];
      used.add(basename(object));
      if (!existsSync(object)) await make(object, [...unit.flags, "-c", unit.source]);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return objects;
}

async function link(
  name: string,
  objects: readonly string[],
  flags: readonly string[],
  used: Set<string>,
): Promise<string> {
  const path = join(
    FOLDER,
    "objects",
    `${digest([...objects, ...flags].map((one) => basename(one)).join("\0"))}-${name}`,
  );
  used.add(basename(path));
  if (!existsSync(path)) await make(path, [...objects, ...flags]);
  return path;
}

function place(folder: Flavour, name: string, path: string): void {
  const target = join(FOLDER, folder, name);
  mkdirSync(dirname(target), { recursive: true });
  rmSync(target, { force: true });
  symlinkSync(relative(dirname(target), path), target);
}

/** Writes the PTX that ships as C++, a file a kernel, and answers the files. */
function writePtx(): string[] {
  const folder = join(relative(ROOT, FOLDER), "translated");
  const ptx = new TextDecoder().decode(Bun.gunzipSync(readFileSync(PTX_FILE)));
  const memory = {
    name: "shared_memory",
    source:
      '#include "ptx_on_host.h"\nthread_local unsigned char ptx::shared_memory[ptx::SHARED_BYTES];\n',
  };
  mkdirSync(join(ROOT, folder), { recursive: true });
  return [memory, ...translate(ptx)].map(({ name, source }) => {
    const path = join(folder, `${name}.cpp`);
    writeFileSync(join(ROOT, path), source);
    return path;
  });
}

/** Builds what is not there yet, of these flavours. Throws with the compiler's or pip's words. */
export async function buildEmulator(flavours: readonly Flavour[] = FLAVOURS): Promise<void> {
  if (Bun.which("g++") === null)
    throw new Error("the emulated CUDA driver is built by g++, which is not there: install it");
  const { headers } = await installToolkit();
  const here = relative(ROOT, import.meta.dir);
  const include = ["-I", join(here, "shim"), "-isystem", relative(ROOT, headers)];
  const used = new Set<string>();
  // What no unit includes by a path of its own.
  const shim = files(`${here}/shim/**/*`).map(read).join("\0");
  const plain = (source: string): Unit => ({ source, flags: [...COMMON, "-O2", ...include] });
  const driver = await link(
    "libcuda.so.1",
    await compile(files(`${here}/{emulator,driver}/*.cpp`).map(plain), shim, used),
    ["-shared", "-Wl,-soname,libcuda.so.1", "-ldl", "-pthread"],
    used,
  );
  const onHost = [
    ...COMMON,
    "-x",
    "c++",
    "-include",
    join(here, "shim", "cuda_on_host.h"),
    ...include,
  ];
  const library = async (sources: readonly string[], flags: readonly string[]): Promise<string> => {
    const units = sources.map((source) => ({ source, flags: [...onHost, ...flags] }));
    const objects = await compile(units, shim, used);
    return link("kernels.so", objects, ["-shared", driver], used);
  };
  // One unit an op: `cuda/kernels.cu`, which includes them all, is for the device.
  const kernels = files("kernels/core/src/ops/*/kernel.cu");
  if (flavours.includes("checked")) place("checked", "kernels.so", await library(kernels, CHECKED));
  if (flavours.includes("fast")) place("fast", "kernels.so", await library(kernels, FAST));
  if (flavours.includes("scenarios")) {
    place("scenarios", "kernels.so", await library(files(`${here}/scenarios/*.cu`), CHECKED));
    const scenarios = await compile(files(`${here}/scenarios/*.cpp`).map(plain), shim, used);
    place("scenarios", "scenarios", await link("scenarios", scenarios, [driver], used));
  }
  if (flavours.includes("ptx")) {
    const flags = [...COMMON, ...TRANSLATED, ...include];
    const objects = await compile(
      writePtx().map((source) => ({ source, flags })),
      shim,
      used,
    );
    place("ptx", "kernels.so", await link("kernels.so", objects, ["-shared", driver], used));
  }
  for (const flavour of flavours) {
    for (const name of ["libcuda.so", "libcuda.so.1"]) place(flavour, name, driver);
  }
  // Old objects go when it is known which ones are still used.
  if (flavours.length < FLAVOURS.length) return;
  const objects = join(FOLDER, "objects");
  for (const name of readdirSync(objects)) if (!used.has(name)) rmSync(join(objects, name));
}

if (import.meta.main) {
  const asked = process.argv.slice(2);
  const wrong = asked.find((one) => !FLAVOURS.some((flavour) => flavour === one));
  if (wrong !== undefined) throw new Error(`${wrong}: allowed are ${FLAVOURS.join(", ")}`);
  const flavours = FLAVOURS.filter((flavour) => asked.length === 0 || asked.includes(flavour));
  await buildEmulator(flavours);
}
