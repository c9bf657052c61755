/** What a planted fault is, how it is planted, and which test told. No processes and no files: so it has tests of its own. */

export interface Fault {
  /** In kebab-case, unique. */
  readonly name: string;
  /** What goes wrong in an engine that has it. */
  readonly breaks: string;
  /** From the root of the repository. */
  readonly file: string;
  /** Exact text of the file, which stands there once. */
  readonly from: string;
  readonly to: string;
  /** Test files, or folders of them, that must notice; the fastest first. */
  readonly tests: readonly string[];
}

export type Outcome =
  /** `by`: the first test that failed. */
  | { readonly kind: "caught"; readonly by: string }
  | { readonly kind: "survived" }
  /** The source has changed, or the fault is no program. */
  | { readonly kind: "not-planted"; readonly why: string };

/** The files of `git ls-files -z`. `node_modules`, which is linked, is among them where it is a link itself: git ignores the folder only. */
export function filesOf(listed: string): string[] {
  return listed.split("\0").filter((path) => path !== "" && path !== "node_modules");
}

/** The file's text with the fault in it. */
export function plant({ file, from, to }: Fault, text: string): { text: string } | { why: string } {
  const count = text.split(from).length - 1;
  if (count !== 1) return { why: `its text stands ${count} times in the file; allowed is once` };
  const planted = text.replace(from, () => to);
  if (planted === text) return { why: "it changes nothing" };
  if (!file.endsWith(".ts")) return { text: planted };
  try {
    new Bun.Transpiler({ loader: "ts" }).transformSync(planted);
  } catch (error) {
    return { why: `the file is no TypeScript with it: ${String(error)}` };
  }
  return { text: planted };
}

/**
 * As `plant` in Rust, and the fault is there when `KVENGINE_FAULT` names it as the program runs: so many faults need one build.
 * The fault is whole lines, or an expression.
 */
export function plantSwitched(fault: Fault, text: string): { text: string } | { why: string } {
  const planted = plant(fault, text);
  if ("why" in planted) return planted;
  const isOn = `std::env::var("KVENGINE_FAULT").as_deref() == Ok("${fault.name}")`;
  const { from, to } = fault;
  const both = from.endsWith("\n")
    ? `if ${isOn} {\n${to}} else {\n${from}}\n`
    : `(if ${isOn} { ${to} } else { ${from} })`;
  return { text: text.replace(from, () => both) };
}

/** What a run of `bun test` says of a fault. A crash and a run past the limit count: no such engine would be shipped. */
export function outcomeOf(exitCode: number | null, timedOut: boolean, output: string): Outcome {
  if (timedOut) return { kind: "caught", by: "the time limit" };
  if (exitCode === 0) return { kind: "survived" };
  const failed = /^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/m.exec(output)?.[1];
  return { kind: "caught", by: failed ?? `exit code ${exitCode}` };
}
