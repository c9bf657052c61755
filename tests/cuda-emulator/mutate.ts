/**
 * Would the tests of the cuda backend notice if it were wrong? As `tests/mutation/mutate.ts`: in a copy of the repository the faults of
 * `faults.ts` are planted one at a time, what a fault is in is built, and the one test that it names runs on the emulated device.
 * The copy stays below `kernels/target/cuda-mutation`, so that little is built again; faults in Rust are built all at once.
 *
 *     bun tests/cuda-emulator/mutate.ts [--only NAME]... [--continue]
 *
 * `--continue` leaves out what runs before have seen caught. Prints a table. Exit code: 0 all caught, 1 some were not, 2
 * nothing could be said (wrong arguments, tests that fail without a fault).
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Fault, type Outcome, outcomeOf, plant } from "../mutation/plan.ts";
import { buildWithFaults, updateCopy } from "../mutation/working-copy.ts";
import { buildEmulator, emulated, type Flavour } from "./build.ts";
import { buildCoreTests, runCoreTests } from "./core-tests.ts";
import { FAULTS } from "./faults.ts";

const ROOT = join(import.meta.dir, "..", "..");
const FOLDER = join(ROOT, "kernels", "target", "cuda-mutation");
const COPY = join(FOLDER, "repository");
const OUTCOMES = join(FOLDER, "outcomes.json");
const COPIED = {
  root: ROOT,
  copy: COPY,
  built: ["kernels/binding/*.node", "kernels/target/cuda-emulator/objects/*"],
  links: ["node_modules", "kernels/target/cuda-toolkit"],
} as const;
/** Checks name a mistake in any order, so one will do. */
const SETTING = "seed=7,threads=greedy,streams=random,driver=12080";
/** A kernel that never ends is no kernel. */
const LIMIT_MS = 600_000;

interface Row {
  readonly fault: string;
  readonly test: string;
  readonly outcome: Outcome;
  readonly seconds: number;
}

interface Ending {
  readonly code: number | null;
  readonly timedOut: boolean;
  readonly output: string;
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

/** The faults to plant, and what runs before came to. */
function readArguments(): { faults: readonly Fault[]; rows: Map<string, Row> } {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true, default: [] },
      continue: { type: "boolean", default: false },
    },
  });
  for (const name of values.only) {
    if (!FAULTS.some((fault) => fault.name === name))
      refuse(`--only ${name}: allowed is ${FAULTS.map((fault) => fault.name).join(", ")}`);
  }
  const before: readonly Row[] =
    values.continue && existsSync(OUTCOMES) ? JSON.parse(readFileSync(OUTCOMES, "utf8")) : [];
  const known = before.filter(({ fault }) => FAULTS.some(({ name }) => name === fault));
  const rows = new Map(known.map((row) => [row.fault, row]));
  const faults = FAULTS.filter(
    ({ name }) =>
      (values.only.length === 0 || values.only.includes(name)) &&
      rows.get(name)?.outcome.kind !== "caught",
  );
  return { faults, rows };
}

/** Runs Bun in the copy. */
async function bun(words: readonly string[], extra: Record<string, string> = {}): Promise<Ending> {
  const child = Bun.spawn([process.execPath, ...words], {
    cwd: COPY,
    env: { ...process.env, NO_COLOR: "1", ...extra },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  clearTimeout(timer);
  return { code: child.exitCode, timedOut, output: output + errors };
}

const isRust = ({ file }: Fault): boolean => file.endsWith(".rs");

/** The core's tests, with all of the faults in Rust: the environment says which of them is there, if any. */
function buildProgram(faults: readonly Fault[]): Promise<string> {
  const rust = faults.filter(isRust);
  return rust.length === 0
    ? buildCoreTests()
    : buildWithFaults(COPIED, join(FOLDER, "cargo"), rust).catch((thrown) =>
        refuse(String(thrown)),
      );
}

/** Builds the copy's kernels as they stand there, of a flavour, and if asked for the PTX; answers why that does not go. */
async function build(flavour: Flavour, withPtx: boolean): Promise<string | undefined> {
  const scripts = withPtx ? [["kernels/cuda/build.ts"]] : [];
  for (const words of [...scripts, ["tests/cuda-emulator/build.ts", flavour]]) {
    const { code, output } = await bun(words);
    if (code !== 0) return output.slice(-2000);
  }
  return undefined;
}

/** What is told of a mistake, or of a test that failed. */
function named(output: string, by: string): Outcome {
  const words =
    /cuda-emulator: (.*)/.exec(output)?.[1] ??
    /panicked at .*\n(.*)/.exec(output)?.[1] ??
    /^error: (.*)/m.exec(output)?.[1];
  return { kind: "caught", by: (words ?? by).slice(0, 200) };
}

/** Builds and runs the fault's test; `name` is a fault's in Rust. Without a fault the test is to pass. */
async function runTest(fault: Fault, name: string, program: string): Promise<Outcome> {
  const test = fault.tests[0] ?? "";
  const [place = "", title = ""] = test.split(" > ");
  const isPtx = place === "ptx";
  const flavour = isPtx ? "ptx" : "checked";
  const why = await build(flavour, isPtx || place.endsWith("machine-code.test.ts"));
  if (why !== undefined) return { kind: "not-planted", why: `it does not compile: ${why}` };
  const device = emulated(flavour, SETTING, COPY);
  if (place.endsWith(".ts")) {
    const { code, timedOut, output } = await bun(["test", `./${place}`, "-t", title], {
      ...device,
      KVENGINE_TEST_DEVICE: "cuda",
      KVENGINE_TEST_RUNS: "0.05",
    });
    const outcome = outcomeOf(code, timedOut, output);
    if (outcome.kind === "survived" && !/^ [1-9]\d* pass$/m.test(output))
      refuse(`${test}: there is no such test`);
    return outcome.kind === "caught" ? named(output, outcome.by) : outcome;
  }
  const { passed, failure } = await runCoreTests(program, [isPtx ? title : test], {
    ...device,
    KVENGINE_FAULT: name,
  });
  if (failure !== undefined) return named(failure, failure.slice(0, 200));
  if (passed === 0) refuse(`${test}: there is no such test`);
  return { kind: "survived" };
}

async function tryFault(fault: Fault, program: string): Promise<Outcome> {
  if (isRust(fault)) return runTest(fault, fault.name, program);
  const path = join(COPY, fault.file);
  const text = readFileSync(path, "utf8");
  const planted = plant(fault, text);
  if ("why" in planted) return { kind: "not-planted", why: planted.why };
  writeFileSync(path, planted.text);
  try {
    return await runTest(fault, "", program);
  } finally {
    writeFileSync(path, text);
  }
}

function describe(outcome: Outcome): string {
  switch (outcome.kind) {
    case "caught":
      return outcome.by;
    case "survived":
      return "SURVIVED";
    case "not-planted":
      return `NOT PLANTED: ${outcome.why}`;
  }
}

const { faults, rows } = readArguments();
await buildEmulator();
mkdirSync(FOLDER, { recursive: true });
updateCopy(COPIED);
const program = await buildProgram(faults);

// Without a fault all of the tests must pass, else their failing with one says nothing.
for (const test of new Set(faults.flatMap(({ tests }) => tests))) {
  const fault = faults.find(({ tests }) => tests[0] === test);
  const outcome = fault === undefined ? undefined : await runTest(fault, "", program);
  if (outcome !== undefined && outcome.kind !== "survived")
    refuse(`${test} fails without a fault: ${describe(outcome)}`);
}
for (const [i, fault] of faults.entries()) {
  const start = performance.now();
  const outcome = await tryFault(fault, program);
  const seconds = Math.round((performance.now() - start) / 1000);
  rows.set(fault.name, { fault: fault.name, test: fault.tests[0] ?? "", outcome, seconds });
  writeFileSync(OUTCOMES, JSON.stringify([...rows.values()], null, 2));
  console.error(`${i + 1}/${faults.length} ${fault.name}: ${describe(outcome)} (${seconds} s)`);
}
console.log("| fault | test | caught by | seconds |\n|---|---|---|---|");
for (const { fault, test, outcome, seconds } of rows.values())
  console.log(`| ${fault} | ${test} | ${describe(outcome).replaceAll("|", "\\|")} | ${seconds} |`);
const caught = [...rows.values()].filter(({ outcome }) => outcome.kind === "caught").length;
console.log(`${caught} of ${rows.size} faults caught`);
process.exit(caught === rows.size ? 0 : 1);
