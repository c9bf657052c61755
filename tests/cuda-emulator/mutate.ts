/**
 * Would the tests of the cuda backend notice if it were wrong? As `tests/mutation/mutate.ts`: in a copy of the repository the faults of
 * `faults.ts` are planted one at a time, and the core's tests that ought to notice run on the emulated device.
 *
 *     bun tests/cuda-emulator/mutate.ts [--only NAME]...
 *
 * Exit code: 0 all caught, 1 some were not, 2 nothing could be said (wrong arguments, tests that fail without a fault).
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type Fault, filesOf, type Outcome, plant } from "../mutation/plan.ts";
import { buildCoreTests } from "./core-tests.ts";
import { FAULTS } from "./faults.ts";

const ROOT = join(import.meta.dir, "..", "..");
/** Checks name a mistake in any order, so one will do. */
const SETTING = "seed=7,threads=greedy,streams=random";

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

function readFaults(): readonly Fault[] {
  const { values } = parseArgs({
    options: { only: { type: "string", multiple: true, default: [] } },
  });
  for (const name of values.only) {
    if (!FAULTS.some((fault) => fault.name === name))
      refuse(`--only ${name}: allowed is ${FAULTS.map((fault) => fault.name).join(", ")}`);
  }
  return FAULTS.filter(({ name }) => values.only.length === 0 || values.only.includes(name));
}

/** Tracked and new files, and what was built of them here: most of it serves the copy, too. */
function copyRepository(): string {
  const folder = mkdtempSync(join(tmpdir(), "kvengine-cuda-mutation-"));
  const listed = Bun.spawnSync(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    { cwd: ROOT },
  );
  if (!listed.success) refuse(`git ls-files: ${listed.stderr.toString()}`);
  for (const path of [...filesOf(listed.stdout.toString()), "kernels/target/cuda-emulator"]) {
    if (!existsSync(join(ROOT, path))) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(ROOT, path), join(folder, path), { recursive: true, verbatimSymlinks: true });
  }
  for (const path of ["node_modules", "kernels/target/cuda-toolkit"])
    symlinkSync(join(ROOT, path), join(folder, path));
  return folder;
}

/** Builds what the fault is in and runs the tests; answers how it ended. Faults of kernels leave the core's test `program` as it is. */
async function runTests(
  folder: string,
  program: string,
  tests: readonly string[],
): Promise<Outcome> {
  const script = join(folder, "tests", "cuda-emulator", "run-core-tests.ts");
  const child = Bun.spawn(
    [process.execPath, script, JSON.stringify([SETTING]), program, ...tests],
    {
      cwd: folder,
      // What the core depends on is built once for all copies.
      env: { ...process.env, CARGO_TARGET_DIR: join(ROOT, "kernels", "target") },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [output, words] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  if (code === 0) return { kind: "survived" };
  if (code === 2) return { kind: "not-planted", why: `it does not compile: ${words.slice(-2000)}` };
  const named =
    /cuda-emulator: (.*)/.exec(output)?.[1] ?? /panicked at .*\n(.*)/.exec(output)?.[1] ?? "";
  const test = /^test (\S+) \.\.\. FAILED/m.exec(output)?.[1] ?? `exit code ${code}`;
  return { kind: "caught", by: `${test}: ${named.slice(0, 200)}` };
}

function describe(outcome: Outcome): string {
  switch (outcome.kind) {
    case "caught":
      return `caught by ${outcome.by}`;
    case "survived":
      return "SURVIVED";
    case "not-planted":
      return `NOT PLANTED: ${outcome.why}`;
  }
}

const faults = readFaults();
const folder = copyRepository();
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(2));

const isRust = ({ file }: Fault): boolean => file.endsWith(".rs");
const built = await buildCoreTests();
for (const rust of [false, true]) {
  const tests = new Set(
    faults.filter((fault) => isRust(fault) === rust).flatMap((fault) => fault.tests),
  );
  if (tests.size === 0) continue;
  const sound = await runTests(folder, rust ? "" : built, [...tests]);
  if (sound.kind !== "survived") refuse(`the tests fail without a fault: ${describe(sound)}`);
}
let caught = 0;
for (const [i, fault] of faults.entries()) {
  const start = performance.now();
  const path = join(folder, fault.file);
  const text = await Bun.file(path).text();
  const planted = plant(fault, text);
  let outcome: Outcome;
  if ("why" in planted) {
    outcome = { kind: "not-planted", why: planted.why };
  } else {
    await Bun.write(path, planted.text);
    outcome = await runTests(folder, isRust(fault) ? "" : built, fault.tests);
    await Bun.write(path, text);
  }
  if (outcome.kind === "caught") caught++;
  const seconds = Math.round((performance.now() - start) / 1000);
  console.log(`${i + 1}/${faults.length} ${fault.name}: ${describe(outcome)} (${seconds} s)`);
}
console.log(`${caught} of ${faults.length} faults caught`);
process.exit(caught === faults.length ? 0 : 1);
