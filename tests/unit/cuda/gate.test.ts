import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type Budget, BUDGETS, budgetOf } from "../../../kernels/cuda/budget.ts";
import { MULTIPROCESSORS } from "../../../kernels/cuda/chips.ts";
import {
  type Code,
  readAssembler,
  readMachineCode,
  violations,
} from "../../../kernels/cuda/gate.ts";
import { PTX_FILE, ptxIsStale } from "../../../kernels/cuda/sources.ts";

const budget: Budget = {
  prefix: "linear_",
  threads: 128,
  blocks: { small: 4, large: 5 },
  tensor: "IMMA",
  wideLoads: 2,
};
const large = MULTIPROCESSORS["sm_80"];
const small = MULTIPROCESSORS["sm_86"];
if (large === undefined || small === undefined) throw new Error("sm_80 and sm_86 are in the table");

function code(changes: Partial<Code> = {}): Code {
  const instructions = new Map([
    ["LDG.E.128.CONSTANT", 1],
    ["LDGSTS.E.BYPASS.128", 1],
    ["IMMA.16832.S8.S8", 4],
  ]);
  return {
    kernel: "linear_x",
    registers: 96,
    sharedBytes: 24_576,
    stack: 0,
    instructions,
    ...changes,
  };
}

describe("the gate of machine code", () => {
  test("lets a kernel pass that is at the end of its budget", () => {
    // 65536 / (5 * 128) = 102.4, in steps of 8: 96; 164 KiB / 5 - 1 KiB = 32563.
    expect(violations(code({ registers: 96, sharedBytes: 32_563 }), budget, large)).toEqual([]);
    expect(violations(code({ registers: 128, sharedBytes: 24_576 }), budget, small)).toEqual([]);
  });

  test("names what is one beyond it", () => {
    expect(violations(code({ registers: 97 }), budget, large)).toEqual([
      "97 registers, 96 leave room for 5 blocks",
    ]);
    expect(violations(code({ sharedBytes: 24_577 }), budget, small)).toEqual([
      "24577 shared bytes, 24576 leave room for 4 blocks",
    ]);
    expect(violations(code({ stack: 8 }), budget, large)).toEqual([
      "8 bytes of stack, 0 local accesses",
    ]);
  });

  test("misses tensor instructions and wide loads that have gone", () => {
    const instructions = new Map([
      ["LDG.E.128", 1],
      ["LDG.E.64", 5],
      ["LDL.64", 1],
    ]);
    expect(violations(code({ instructions }), budget, large)).toEqual([
      "0 bytes of stack, 1 local accesses",
      "no IMMA",
      "1 16-byte loads, not 2",
    ]);
  });

  test("reads the assembler's log and the disassembly", () => {
    const log = `ptxas info    : Compiling entry function 'add_f32' for 'sm_80'
ptxas info    : Function properties for add_f32
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 12 registers, 2304 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 7 registers, 380 bytes cmem[0]`;
    expect(readAssembler(log)).toEqual([
      { kernel: "add_f32", registers: 12, sharedBytes: 2304, stack: 28 },
      { kernel: "b", registers: 7, sharedBytes: 0, stack: 0 },
    ]);
    const sass = `		Function : add_f32
        /*0000*/                   MOV R1, c[0x0][0x28] ;                  /* 0x00000a0000017a02 */
        /*0010*/              @!P0 LDG.E.128 R4, [R2.64] ;
        /*0020*/             @!UP0 LDG.E.128 R4, [R2.64] ;`;
    expect([...(readMachineCode(sass).get("add_f32") ?? [])]).toEqual([
      ["MOV", 1],
      ["LDG.E.128", 2],
    ]);
  });

  test("has one budget for each kernel of the PTX, and no row that none uses", () => {
    const ptx = new TextDecoder().decode(Bun.gunzipSync(readFileSync(PTX_FILE)));
    const kernels = [...ptx.matchAll(/\.entry (\w+)\(/g)].map((match) => match[1] ?? "");
    expect(kernels.length).toBeGreaterThan(50);
    const used = new Set(kernels.map((kernel) => budgetOf(kernel).prefix));
    expect(BUDGETS.map(({ prefix }) => prefix).filter((prefix) => !used.has(prefix))).toEqual([]);
  });
});

test("the committed PTX is of these sources, for drivers from CUDA 12.0 on", () => {
  expect(ptxIsStale()).toBe(false);
  const ptx = new TextDecoder().decode(Bun.gunzipSync(readFileSync(PTX_FILE)));
  expect(/^\.version (.*)$/m.exec(ptx)?.[1]).toBe("8.0");
  expect(/^\.target (.*)$/m.exec(ptx)?.[1]).toBe("sm_80");
});
