/**
 * `npm test`: sets up, gets the default model, runs every test of both languages. `--ci` adds types, lint, format, dead
 * code and generated files, each counted as one check. `--only FOLDER` runs the tests under one path of tests/ and no others.
 * The last line is always `N passed, N failed`.
 */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installPackages, setup } from "./setup.mjs";
import { root, run, say } from "./tools.mjs";

/** One line of the summary: what ran, how long, with which counts. */
const suites = [];

/** What failed tests of TypeScript printed: said once more at the end, because long logs lose their middle. */
const failures = [];
/** Lines of each, at most. */
const FAILURE_LINES = 60;

async function suite(name, body) {
  say(`\n── ${name}`);
  const start = performance.now();
  let counts;
  try {
    counts = await body();
  } catch (error) {
    say(`error: ${error.message}`);
    counts = { passed: 0, failed: 1 };
  }
  suites.push({ name, minutes: (performance.now() - start) / 60_000, ...counts });
}

/** One pass or one failure by the exit code of a program. */
async function check(name, command, args) {
  await suite(name, async () => byExitCode(await run(command, args)));
}

function byExitCode(result) {
  return result.code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** The path that our own command line prints. */
async function getDefaultModel(bun) {
  const result = await run(bun, [join(root, "cli", "main.ts"), "pull", "smollm2-135m"], {
    capture: true,
  });
  const path = result.stdout.trim().split("\n").at(-1);
  if (result.code !== 0 || !path)
    throw new Error("the default model could not be got; tests that need it will fail");
  return path;
}

async function testRust() {
  const manifest = [
    "--manifest-path",
    join(root, "kernels", "Cargo.toml"),
    "-p",
    "kvengine_core",
    "--release",
  ];
  const nextest = await run("cargo", ["nextest", "--version"], { capture: true, quiet: true });
  if (nextest.code === 0) {
    const args = [
      "nextest",
      "run",
      ...manifest,
      "--no-fail-fast",
      "--status-level=fail",
      "--final-status-level=fail",
    ];
    return nextestCounts(
      await run("cargo", args, { capture: true, env: { CARGO_TERM_COLOR: "never" } }),
    );
  }
  const args = ["test", ...manifest, "--no-fail-fast"];
  return cargoTestCounts(
    await run("cargo", args, { capture: true, env: { CARGO_TERM_COLOR: "never" } }),
  );
}

/** `Summary [ 0.5s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped`. */
function nextestCounts({ code, output }) {
  const run = /Summary \[.*?\] +(\d+)(?:\/\d+)? tests? run: (\d+) passed/.exec(output);
  if (run === null) return { passed: 0, failed: 1 }; // it did not compile
  const passed = Number(run[2]);
  const failed = Number(run[1]) - passed;
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

/** `test result: ok. 12 passed; 0 failed; 1 ignored; …`, once for each binary. */
function cargoTestCounts({ code, output }) {
  const counts = { passed: 0, failed: 0 };
  for (const [, passed, failed] of output.matchAll(
    /test result: \w+\. (\d+) passed; (\d+) failed/g,
  )) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
  }
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

/** Runs the test files under one path of tests/. The counts come from the JUnit file, not from what is printed. */
async function testBun(bun, path) {
  const folder = mkdtempSync(join(tmpdir(), "kvengine-test-"));
  try {
    const report = join(folder, "junit.xml");
    const args = ["test", `./tests/${path}`, "--reporter=junit", `--reporter-outfile=${report}`];
    // On a terminal the colours stay, and what failed can be scrolled to.
    const result = await run(bun, args, { capture: !process.stderr.isTTY });
    if (result.code !== 0) failures.push(...failedTests(result.output));
    const xml = existsSync(report) ? readFileSync(report, "utf8") : "";
    const head = /<testsuites\b[^>]*>/.exec(xml)?.[0] ?? "";
    const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
    const failed = number("failures") + number("errors");
    const passed = number("tests") - failed - number("skipped");
    // A file that does not load, or a crash, leaves no failure in the report.
    return { passed, failed: result.code !== 0 && failed === 0 ? 1 : failed };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Of what `bun test` printed: each line `(fail) …` with what stands between it and the test before. Where there is none,
 * as after a crash, the end of all.
 */
function failedTests(output) {
  const failed = [];
  const lines = output.trimEnd().split("\n");
  let start = 0;
  for (const [i, line] of lines.entries()) {
    if (!/^\((?:pass|fail|skip|todo)\)/.test(line)) continue;
    if (line.startsWith("(fail)")) {
      const end = lines[i + 1]?.startsWith("  ^") ? i + 2 : i + 1; // "this test timed out"
      failed.push(lines.slice(Math.max(start, i - FAILURE_LINES), end));
    }
    start = i + 1;
  }
  if (failed.length === 0) failed.push(lines.slice(-FAILURE_LINES));
  return failed.map((one) => one.join("\n"));
}

/** Folders and files directly under tests/ that hold tests. */
function testPaths() {
  const holdsTests = (path) =>
    path.endsWith(".test.ts") ||
    (!path.endsWith(".ts") &&
      readdirSync(path, { recursive: true }).some((file) => String(file).endsWith(".test.ts")));
  return readdirSync(join(root, "tests"), { withFileTypes: true })
    .filter(
      (entry) =>
        (entry.isDirectory() || entry.name.endsWith(".test.ts")) &&
        holdsTests(join(root, "tests", entry.name)),
    )
    .map((entry) => entry.name)
    .sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1));
}

/** Fast and basic before slow and whole. */
function order(path) {
  const index = ["architecture.test.ts", "unit", "native"].indexOf(path);
  if (index >= 0) return index;
  return path === "e2e" ? 9 : 5;
}

/** What is committed and generated must be what generating it now gives. */
async function checkGenerated(bun) {
  const files = [
    "README.md",
    "connectors/declarations.json",
    "kernels/binding/index.js",
    "kernels/binding/index.d.ts",
  ];
  const read = () =>
    files.map((file) =>
      existsSync(join(root, file)) ? readFileSync(join(root, file), "utf8") : "",
    );
  const before = read();
  const results = [
    await run(bun, [join(root, "kernels", "build.ts")]),
    await run(bun, [join(root, "cli", "setup", "generate.ts")]),
  ];
  const after = read();
  const changed = files.filter((_, i) => before[i] !== after[i]);
  if (changed.length > 0) say(`not in step, now written anew: ${changed.join(", ")}`);
  return byExitCode({
    code: changed.length > 0 || results.some((result) => result.code !== 0) ? 1 : 0,
  });
}

async function main(ci, only) {
  let bun;
  await suite("set-up", async () => {
    bun = await setup();
    return { passed: 0, failed: 0 };
  });
  if (bun === undefined) {
    // The packages alone are enough for what needs no native module; their failure has been counted.
    bun = await installPackages().catch(() => undefined);
  }
  if (ci) {
    const node = process.execPath;
    const tool = (name, file) => join(root, "node_modules", name, "bin", file);
    const manifest = ["--manifest-path", join(root, "kernels", "Cargo.toml")];
    await check("types", node, [tool("typescript", "tsc"), "--noEmit"]);
    await check("lint", node, [tool("oxlint", "oxlint"), "--type-aware", "--deny-warnings"]);
    await check("format", node, [tool("oxfmt", "oxfmt"), "--check"]);
    await check("dead code", node, [tool("knip", "knip.js")]);
    await check("Rust format", "cargo", ["fmt", ...manifest, "--all", "--check"]);
    await check("Rust lint", "cargo", [
      "clippy",
      ...manifest,
      "--release",
      "--all-targets",
      "--",
      "-D",
      "warnings",
    ]);
    if (bun !== undefined) await suite("generated files", () => checkGenerated(bun));
  }
  if (only === undefined) await suite("Rust", testRust);
  if (bun === undefined) return;
  await suite("default model", async () => {
    process.env.KVENGINE_TEST_MODEL ||= await getDefaultModel(bun);
    return { passed: 0, failed: 0 };
  });
  for (const path of only === undefined ? testPaths() : [only])
    await suite(`TypeScript: ${path}`, () => testBun(bun, path));
}

function report() {
  const sum = (field) => suites.reduce((total, one) => total + one[field], 0);
  const width = Math.max(...suites.map((one) => one.name.length));
  for (const failure of failures) process.stdout.write(`\n${failure.trim()}\n`);
  process.stdout.write("\n");
  for (const one of suites) {
    process.stdout.write(
      `${one.name.padEnd(width)}  ${one.minutes.toFixed(2).padStart(6)} min  ${one.passed} passed, ${one.failed} failed\n`,
    );
  }
  process.stdout.write(`${"all".padEnd(width)}  ${sum("minutes").toFixed(2).padStart(6)} min\n`);
  process.exitCode = sum("failed") === 0 && sum("passed") > 0 ? 0 : 1;
  process.stdout.write(`${sum("passed")} passed, ${sum("failed")} failed\n`);
}

const onlyAt = process.argv.indexOf("--only");
await main(process.argv.includes("--ci"), onlyAt < 0 ? undefined : process.argv[onlyAt + 1]);
report();
