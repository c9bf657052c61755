/**
 * Holds the machine code of the committed PTX to `budget.ts`, for each chip, without one:
 *
 *   bun kernels/cuda/gate.ts [--all]
 *
 * Prints a line for each kernel and chip that breaks its budget, or with `--all` for each, then `N passed, N failed`.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Budget, budgetOf } from "./budget.ts";
import { type Multiprocessor, MULTIPROCESSORS } from "./chips.ts";
import { PTX_FILE } from "./sources.ts";
import { installToolkit, type Toolkit } from "./toolkit.ts";

/** What the assembler made of a kernel for one chip. */
export interface Code {
  readonly kernel: string;
  readonly registers: number;
  readonly sharedBytes: number;
  /** Bytes of stack, with spilled registers. */
  readonly stack: number;
  /** Instructions by name, `LDG.E.128` and so on. */
  readonly instructions: ReadonlyMap<string, number>;
}

/** What the driver keeps of shared memory for each block. */
const RESERVED_BYTES = 1024;
/** Registers are given out to warps in steps of so many a thread. */
const REGISTER_STEP = 8;

function blocksOf(budget: Budget, chip: Multiprocessor): number {
  return chip.threads < 2048 ? budget.blocks.small : budget.blocks.large;
}

/** How a kernel breaks its budget on a chip; empty if it does not. */
export function violations(code: Code, budget: Budget, chip: Multiprocessor): readonly string[] {
  const blocks = blocksOf(budget, chip);
  const mostRegisters =
    Math.floor(chip.registers / (blocks * budget.threads) / REGISTER_STEP) * REGISTER_STEP;
  const mostShared = Math.floor(chip.sharedBytes / blocks) - RESERVED_BYTES;
  const count = (test: (name: string) => boolean): number =>
    [...code.instructions].reduce((sum, [name, times]) => sum + (test(name) ? times : 0), 0);
  const wide = count((name) => /^(LDG|LDGSTS)\b/.test(name) && name.includes(".128"));
  const local = count((name) => /^(LDL|STL)\b/.test(name));
  const found: string[] = [];
  if (code.stack > 0 || local > 0)
    found.push(`${code.stack} bytes of stack, ${local} local accesses`);
  if (code.registers > mostRegisters) {
    found.push(`${code.registers} registers, ${mostRegisters} leave room for ${blocks} blocks`);
  }
  if (code.sharedBytes > mostShared) {
    found.push(`${code.sharedBytes} shared bytes, ${mostShared} leave room for ${blocks} blocks`);
  }
  if (blocks * budget.threads > chip.threads || blocks > chip.blocks) {
    found.push(`${blocks} blocks are more than the chip holds`);
  }
  const { tensor } = budget;
  if (tensor !== undefined && count((name) => name.startsWith(tensor)) === 0)
    found.push(`no ${tensor}`);
  if (wide < (budget.wideLoads ?? 0)) found.push(`${wide} 16-byte loads, not ${budget.wideLoads}`);
  return found;
}

/** Reads what `ptxas -v` says of all kernels. */
export function readAssembler(log: string): readonly Omit<Code, "instructions">[] {
  return log
    .split("Compiling entry function '")
    .slice(1)
    .map((text) => {
      const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
      return {
        kernel: text.slice(0, text.indexOf("'")),
        registers: number(/Used (\d+) registers/),
        sharedBytes: number(/(\d+) bytes smem/),
        stack:
          number(/(\d+) bytes stack frame/) +
          number(/(\d+) bytes spill stores/) +
          number(/(\d+) bytes spill loads/),
      };
    });
}

/** Counts instructions in what `cuobjdump -sass` prints, by kernel. */
export function readMachineCode(text: string): Map<string, Map<string, number>> {
  const kernels = new Map<string, Map<string, number>>();
  let counts = new Map<string, number>();
  for (const line of text.split("\n")) {
    const kernel = /Function : (\w+)/.exec(line)?.[1];
    if (kernel !== undefined) kernels.set(kernel, (counts = new Map<string, number>()));
    const name = /^\s+\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]+)/.exec(line)?.[1];
    if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return kernels;
}

async function output(command: readonly string[], path: string): Promise<string> {
  const environment = { ...process.env, PATH: `${path}:${process.env["PATH"] ?? ""}` };
  const child = Bun.spawn([...command], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: environment,
  });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${errors}`);
  return out + errors;
}

/** The machine code of the committed PTX for a chip. */
async function assemble(toolkit: Toolkit, folder: string, chip: string): Promise<readonly Code[]> {
  const cubin = join(folder, `${chip}.cubin`);
  const ptx = join(folder, "kernels.ptx");
  const log = await output(
    [toolkit.newestPtxas, `-arch=${chip}`, "-v", ptx, "-o", cubin],
    toolkit.programs,
  );
  const instructions = readMachineCode(
    await output([toolkit.cuobjdump, "-sass", cubin], toolkit.programs),
  );
  return readAssembler(log).map((code) =>
    Object.assign(code, {
      instructions: instructions.get(code.kernel) ?? new Map<string, number>(),
    }),
  );
}

if (import.meta.main) {
  const all = process.argv.includes("--all");
  const toolkit = await installToolkit();
  const folder = mkdtempSync(join(tmpdir(), "kvengine-gate-"));
  let passed = 0;
  let failed = 0;
  try {
    writeFileSync(join(folder, "kernels.ptx"), Bun.gunzipSync(readFileSync(PTX_FILE)));
    for (const [chip, limits] of Object.entries(MULTIPROCESSORS)) {
      for (const code of await assemble(toolkit, folder, chip)) {
        const found = violations(code, budgetOf(code.kernel), limits);
        if (found.length === 0) passed++;
        else failed++;
        if (found.length > 0 || all) {
          const numbers = `${code.registers} registers, ${code.sharedBytes} shared bytes`;
          process.stdout.write(
            `${chip} ${code.kernel}: ${found.length === 0 ? numbers : found.join("; ")}\n`,
          );
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}
