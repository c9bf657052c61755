/**
 * A mutation check of the tests: would they notice if the engine were wrong? `bun tests/mutation/mutate.ts` copies the
 * repository as it lies here (tracked and new files, the built addon; `node_modules` by a link) to a temporary folder, and there,
 * never in the working tree, plants the faults of `faults.ts` one at a time: an exact text of one file, which must stand there
 * once, is replaced by a wrong one. With each fault it runs the test files that ought to notice and reports whether one did:
 * `caught`, `survived`, or `not-planted` when the text has changed since (then mend the fault). First the same files are run
 * without a fault; they must pass. A survivor is a hole in the tests: close it with a test, not with a weaker fault.
 *
 *     --only NAME    this fault only; may be repeated
 *     --runs FACTOR  property runs, as a part of the usual number (0.5)
 *     --limit S      seconds for the tests of one fault (120); more counts as caught
 *     --json         the report as JSON on standard output; progress goes to standard error either way
 *
 * Exit code: 0 all caught, 1 some were not, 2 nothing could be said (wrong arguments, tests that fail without a fault).
 */

import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { FAULTS } from "./faults.ts";
import { type Fault, filesOf, type Outcome, outcomeOf, plant } from "./plan.ts";

const ROOT = join(import.meta.dir, "../..");

interface Options {
  readonly faults: readonly Fault[];
  readonly runs: number;
  readonly limitSeconds: number;
  readonly json: boolean;
}

interface TestRun {
  readonly exitCode: number | null;
  readonly timedOut: boolean;
  readonly output: string;
}

/** Says what is wrong with the arguments or the tree, and ends. */
function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string", multiple: true, default: [] },
        runs: { type: "string", default: "0.5" },
        limit: { type: "string", default: "120" },
        json: { type: "boolean", default: false },
      },
    });
    for (const name of values.only) {
      if (!FAULTS.some((fault) => fault.name === name))
        refuse(`--only ${name}: allowed is ${FAULTS.map((fault) => fault.name).join(", ")}`);
    }
    const faults = FAULTS.filter(
      ({ name }) => values.only.length === 0 || values.only.includes(name),
    );
    return {
      faults,
      runs: above0("--runs", values.runs),
      limitSeconds: above0("--limit", values.limit),
      json: values.json,
    };
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function above0(flag: string, text: string): number {
  const value = Number(text);
  return value > 0 && Number.isFinite(value)
    ? value
    : refuse(`${flag} is ${text}; allowed is a number above 0`);
}

/** Copies the repository; answers the folder. */
function copyRepository(): string {
  const folder = mkdtempSync(join(tmpdir(), "kvengine-mutation-"));
  const listed = Bun.spawnSync(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    { cwd: ROOT },
  );
  if (!listed.success) refuse(`git ls-files: ${listed.stderr.toString()}`);
  const addons = [...new Bun.Glob("kernels/binding/*.node").scanSync({ cwd: ROOT })];
  for (const path of [...filesOf(listed.stdout.toString()), ...addons]) {
    // A tracked file may be deleted here.
    if (!existsSync(join(ROOT, path))) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(ROOT, path), join(folder, path), { verbatimSymlinks: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}

async function runTests(
  folder: string,
  files: readonly string[],
  options: Options,
  limitSeconds: number,
): Promise<TestRun> {
  const child = Bun.spawn(
    [process.execPath, "test", "--bail", ...files.map((file) => `./${file}`)],
    {
      cwd: folder,
      env: { ...process.env, KVENGINE_TEST_RUNS: String(options.runs), NO_COLOR: "1" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, limitSeconds * 1000);
  const [output, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  await child.exited;
  clearTimeout(timer);
  return { exitCode: child.exitCode, timedOut, output: output + errors };
}

/** The tests must pass without a fault, else their failing with one says nothing. */
async function checkWithoutFault(folder: string, options: Options): Promise<void> {
  const files = [...new Set(options.faults.flatMap(({ tests }) => tests))].sort();
  for (const file of files)
    if (!existsSync(join(folder, file))) refuse(`${file} is named by a fault and does not exist`);
  console.error(`without a fault: ${files.length} test files`);
  const run = await runTests(folder, files, options, options.limitSeconds * files.length);
  if (run.exitCode === 0 && !run.timedOut) return;
  refuse(`${run.output.slice(-4000)}\nthe tests fail without a fault (seen above)`);
}

async function tryFault(folder: string, fault: Fault, options: Options): Promise<Outcome> {
  const path = join(folder, fault.file);
  if (!existsSync(path)) return { kind: "not-planted", why: `${fault.file} does not exist` };
  const sound = await Bun.file(path).text();
  const planted = plant(fault, sound);
  if ("why" in planted) return { kind: "not-planted", why: planted.why };
  await Bun.write(path, planted.text);
  try {
    const run = await runTests(folder, fault.tests, options, options.limitSeconds);
    return outcomeOf(run.exitCode, run.timedOut, run.output);
  } finally {
    await Bun.write(path, sound);
  }
}

function describe(outcome: Outcome): string {
  switch (outcome.kind) {
    case "caught":
      return `caught by: ${outcome.by}`;
    case "survived":
      return "SURVIVED";
    case "not-planted":
      return `NOT PLANTED: ${outcome.why}`;
  }
}

async function main(): Promise<void> {
  const options = readOptions();
  const folder = copyRepository();
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(2));

  await checkWithoutFault(folder, options);
  const report: (Outcome & { name: string; breaks: string; seconds: number })[] = [];
  for (const [i, fault] of options.faults.entries()) {
    const start = performance.now();
    const outcome = await tryFault(folder, fault, options);
    const seconds = Math.round((performance.now() - start) / 100) / 10;
    report.push({ name: fault.name, breaks: fault.breaks, ...outcome, seconds });
    const place = `${i + 1}/${options.faults.length}`;
    console.error(`${place} ${fault.name}: ${describe(outcome)} (${seconds} s)`);
  }
  const caught = report.filter(({ kind }) => kind === "caught").length;
  if (options.json)
    console.log(JSON.stringify({ caught, all: report.length, faults: report }, null, 2));
  else console.log(`${caught} of ${report.length} faults caught`);
  process.exit(caught === report.length ? 0 : 1);
}

await main();
