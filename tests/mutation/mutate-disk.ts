/**
 * Would the tests of the disk store notice if it were wrong? As `mutate.ts`: the faults of `disk-faults.ts` are planted in a copy of the
 * repository below `kernels/target/disk-mutation`, all of them in one build; the environment says which one is there. With each the one
 * test that it names is run.
 *
 *     bun tests/mutation/mutate-disk.ts [--only NAME]...
 *
 * Prints a table. Exit code: 0 all caught, 1 some were not, 2 nothing could be said (wrong arguments, tests that fail without a fault).
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DISK_FAULTS } from "./disk-faults.ts";
import type { Fault } from "./plan.ts";
import { buildWithFaults, updateCopy } from "./working-copy.ts";

const ROOT = join(import.meta.dir, "..", "..");
const FOLDER = join(ROOT, "kernels", "target", "disk-mutation");
/** A test that never ends has noticed. */
const LIMIT_MS = 120_000;

interface TestRun {
  readonly passed: number;
  /** What failed, `undefined` = nothing. */
  readonly failure: string | undefined;
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

function readArguments(): readonly Fault[] {
  const { values } = parseArgs({
    options: { only: { type: "string", multiple: true, default: [] } },
  });
  for (const name of values.only) {
    if (!DISK_FAULTS.some((fault) => fault.name === name))
      refuse(`--only ${name}: allowed is ${DISK_FAULTS.map((fault) => fault.name).join(", ")}`);
  }
  return DISK_FAULTS.filter(({ name }) => values.only.length === 0 || values.only.includes(name));
}

async function run(program: string, test: string, fault: string): Promise<TestRun> {
  const child = Bun.spawn([program, "--exact", test], {
    env: { ...process.env, KVENGINE_FAULT: fault, RUST_BACKTRACE: "0" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  const passed = Number(/test result: ok\. (\d+) passed/.exec(output)?.[1] ?? 0);
  if (code === 0) return { passed, failure: undefined };
  if (child.signalCode === "SIGKILL") return { passed, failure: "the time limit" };
  const words = /panicked at .*\n(.*)/.exec(output + errors)?.[1];
  return { passed, failure: (words ?? `exit code ${code}`).slice(0, 160) };
}

const faults = readArguments();
mkdirSync(FOLDER, { recursive: true });
const copied = { root: ROOT, copy: join(FOLDER, "repository"), built: [], links: [] };
let program: string;
try {
  updateCopy(copied);
  program = await buildWithFaults(copied, join(FOLDER, "cargo"), faults);
} catch (thrown) {
  refuse(String(thrown));
}

for (const test of new Set(faults.flatMap(({ tests }) => tests))) {
  const { passed, failure } = await run(program, test, "");
  if (failure !== undefined) refuse(`${test} fails without a fault: ${failure}`);
  if (passed !== 1) refuse(`${test}: there is no such test`);
}
let caught = 0;
console.log("| fault | test | caught by |\n|---|---|---|");
for (const { name, tests } of faults) {
  const [test = ""] = tests;
  const { failure } = await run(program, test, name);
  if (failure !== undefined) caught += 1;
  console.log(`| ${name} | ${test} | ${failure?.replaceAll("|", "\\|") ?? "SURVIVED"} |`);
}
console.log(`${caught} of ${faults.length} faults caught`);
process.exit(caught === faults.length ? 0 : 1);
