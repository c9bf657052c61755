/**
 * What an instruction of PTX is in C++: registers are variables, labels are labels. Whatever is no operator of C++ is a function of
 * `shim/ptx_on_host.h`.
 */

/** Variables for the classes of registers. */
const REGISTERS: Readonly<Record<string, string>> = {
  pred: "bool",
  b16: "u16",
  b32: "u32",
  b64: "u64",
  f32: "f32",
  f64: "f64",
};
/** Types of instructions: those of bits are unsigned numbers. */
const TYPES: Readonly<Record<string, string>> = {
  pred: "bool",
  b8: "u8",
  b16: "u16",
  b32: "u32",
  b64: "u64",
};
/** A type as C++ has it. */
export const type = (name: string): string => TYPES[name] ?? name;
/** Where a sum or a product leaves the range of a signed number, it wraps: C++ says so of unsigned ones only. */
const wrapping = (name: string): string => type(name.replace(/^s(?=\d)/, "u"));

const SPECIAL: Readonly<Record<string, string>> = {
  "%tid": "threadIdx",
  "%ctaid": "blockIdx",
  "%ntid": "blockDim",
  "%nctaid": "gridDim",
};
const OPERATORS: Readonly<Record<string, string>> = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  rem: "%",
  and: "&",
  or: "|",
  xor: "^",
};
const COMPARISONS: Readonly<Record<string, string>> = {
  lt: "a < b",
  le: "a <= b",
  gt: "a > b",
  ge: "a >= b",
  eq: "a == b",
  ne: "a < b || a > b",
  // True for NaN, too.
  ltu: "!(a >= b)",
  leu: "!(a > b)",
  gtu: "!(a <= b)",
  geu: "!(a < b)",
  equ: "!(a < b || a > b)",
  neu: "!(a == b)",
  nan: "a != a || b != b",
  num: "a == a && b == b",
};

/** A kernel, line by line. */
export class PtxKernel {
  readonly #name: string;
  /** Bytes from the start of shared memory of the kernel's variables. */
  readonly #shared: ReadonlyMap<string, number>;
  /** Registers by what their names begin with, and how many. */
  readonly #registers: (readonly [type: string, prefix: string, count: number])[] = [];
  readonly #lines: string[] = [];

  constructor(name: string, shared: ReadonlyMap<string, number>) {
    this.#name = name;
    this.#shared = shared;
  }

  /** A line of the body. */
  line(line: string): void {
    const label = /^(\$\w+):$/.exec(line);
    const registers = /^\.reg \.(\w+)\s+%(\w+)<(\d+)>;$/.exec(line);
    if (label !== null) this.#lines.push(`${variable(label[1] ?? "")}:;`);
    else if (registers !== null)
      this.#registers.push([registers[1] ?? "", registers[2] ?? "", Number(registers[3])]);
    else if (!/^(\/\/|\.pragma|\.shared|$)/.test(line)) this.#lines.push(this.#statement(line));
  }

  source(parameters: readonly string[]): string {
    const variables = this.#registers.map(([kind, prefix, count]) => {
      const names = Array.from({ length: count }, (_, i) => variable(`%${prefix}${i}`));
      return `  ${REGISTERS[kind]} ${names.join(", ")};`;
    });
    const list = parameters.map((kind, i) => `${kind} p_${i}`).join(", ");
    return [
      `#include "ptx_on_host.h"\nusing namespace ptx;`,
      `extern "C" void ${this.#name}(${list}) {`,
      ...variables,
      ...this.#lines.map((line) => `  ${line}`),
      `}\nCUEMU_KERNEL(${this.#name})\n`,
    ].join("\n");
  }

  #statement(line: string): string {
    const found = /^(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*);$/.exec(line);
    if (found === null) throw new Error(`${this.#name}: this is no instruction: ${line}`);
    const [, not = "", guard, name = "", text = ""] = found;
    const statement = this.#instruction(name.split("."), operandsOf(text), line);
    return guard === undefined ? statement : `if (${not}${variable(guard)}) { ${statement} }`;
  }

  /** An operand as a value of a type. */
  #value(operand: string, kind: string): string {
    const to = type(kind);
    const [, bits32] = /^0f([0-9A-F]{8})$/.exec(operand) ?? [];
    if (bits32 !== undefined) return `as<${to}>(0x${bits32}u)`;
    const [, bits64] = /^0d([0-9A-F]{16})$/.exec(operand) ?? [];
    if (bits64 !== undefined) return `as<${to}>(u64(0x${bits64}ull))`;
    if (/^-?\d+$/.test(operand)) return `${to}(${operand}${operand.length > 9 ? "ll" : ""})`;
    const place = this.#shared.get(operand);
    if (place !== undefined) return `${to}(${place})`;
    const [, special, axis] = /^(%\w+)\.([xyz])$/.exec(operand) ?? [];
    if (special !== undefined) return `${to}(${SPECIAL[special]}.${axis})`;
    if (!/^%\w+$/.test(operand)) throw new Error(`${this.#name}: this is no operand: ${operand}`);
    return `as<${to}>(${variable(operand)})`;
  }

  /** Where `[register + number]` lies, as a pointer. */
  #pointer(space: string, operand: string, kind: string): string {
    const [, base = "", offset = "0"] = /^\[([\w$%]+)(?:\+(-?\d+))?\]$/.exec(operand) ?? [];
    return `${space}_at<${kind}>(${this.#value(base, "u64")} + ${offset})`;
  }

  #put(to: string, kind: string, value: string): string {
    return `put(${variable(to)}, ${type(kind)}(${value}));`;
  }

  #instruction(name: readonly string[], operands: readonly string[], line: string): string {
    const [op = ""] = name;
    const kind = name.at(-1) ?? "";
    const [to = "", a = "", b = "", c = ""] = operands;
    const x = (operand: string, of = kind): string => this.#value(operand, of);
    const set = (value: string, of = kind): string => this.#put(to, of, value);
    switch (op) {
      case "ret":
        return "return;";
      case "bra":
        return `goto ${variable(to)};`;
      case "bar":
        return "cuemu::sync_threads();";
      case "mov":
        if (to.startsWith("{")) return this.#split(listOf(to), kind, a);
        if (a.startsWith("{")) return this.#join(to, kind, listOf(a));
        return set(x(a));
      case "cvta":
        return set(x(a));
      case "ld":
        return this.#load(name, to, a);
      case "st":
        return this.#store(name, to, a);
      case "add":
      case "sub":
        return set(`${x(a, wrapping(kind))} ${OPERATORS[op]} ${x(b, wrapping(kind))}`);
      case "div":
      case "rem":
      case "and":
      case "or":
      case "xor":
        return set(`${x(a)} ${OPERATORS[op]} ${x(b)}`);
      case "mul":
        return this.#multiply(name, to, a, b);
      case "mad":
        return set(`${x(a, wrapping(kind))} * ${x(b, wrapping(kind))} + ${x(c, wrapping(kind))}`);
      case "fma":
        return set(`${name[1] === "rm" ? "fma_down" : "fmaf"}(${x(a)}, ${x(b)}, ${x(c)})`);
      case "neg":
        return set(`-${x(a, wrapping(kind))}`);
      case "not":
        return set(kind === "pred" ? `!${x(a)}` : `~${x(a)}`);
      case "shl":
        return set(`shift_left(${x(a)}, ${x(b, "u32")})`);
      case "shr":
        return set(`shift_right(${x(a)}, ${x(b, "u32")})`);
      case "bfi":
        return set(`insert_bits(${x(a)}, ${x(b)}, ${x(c, "u32")}, ${x(operands[4] ?? "", "u32")})`);
      case "popc":
        return set(`__popc(${x(a)})`);
      case "min":
      case "max":
        return set(`${kind === "f32" ? `f${op}f` : `std::${op}`}(${x(a)}, ${x(b)})`);
      case "sqrt":
        return set(`sqrtf(${x(a)})`);
      case "rcp":
        return set(`1.0f / ${x(a)}`);
      case "ex2":
        return set(`exp2_approximate(${x(a)})`);
      case "dp4a":
        return set(`dot4(${x(a, "u32")}, ${x(b, "u32")}, ${x(c)})`);
      case "selp":
        return set(`${x(c, "pred")} ? ${x(a)} : ${x(b)}`);
      case "setp":
        return this.#compare(name[1] ?? "", kind, operands);
      case "cvt":
        return this.#convert(name, to, a, b);
      case "shfl":
        return this.#shuffle(name[2] ?? "", operands);
      case "vote":
        return this.#put(to, "u32", `cuemu::ballot(${x(b, "u32")}, ${x(a, "pred")})`);
      case "atom":
        return set(`atomic_${name[2]}(${this.#pointer("shared", a, type(kind))}, ${x(b)})`);
      case "mma":
        return this.#multiplyMatrices(name, operands);
      case "ldmatrix": {
        const count = listOf(to).map((one, i) => `${variable(one)} = t[${i}];`);
        const row = this.#pointer("shared", a, "void");
        return `{ u32 t[4]; cuemu::load_matrix(t, 4, ${row}, ${name.includes("trans")}); ${count.join(" ")} }`;
      }
      case "cp":
        return this.#copy(name, operands);
      default:
        throw new Error(`${this.#name}: no translation of ${line}`);
    }
  }

  /** A register to the two that make it up, the lower first. */
  #split(parts: readonly string[], kind: string, from: string): string {
    const half = kind === "b64" ? 32 : 16;
    return parts
      .map((part, i) => this.#put(part, `b${half}`, `${this.#value(from, kind)} >> ${i * half}`))
      .join(" ");
  }

  #join(to: string, kind: string, parts: readonly string[]): string {
    const half = kind === "b64" ? 32 : 16;
    const [low = "", high = ""] = parts.map((part) => this.#value(part, `b${half}`));
    return this.#put(to, kind, `${type(kind)}(${low}) | ${type(kind)}(${high}) << ${half}`);
  }

  #load(name: readonly string[], to: string, from: string): string {
    const kind = name.at(-1) ?? "";
    if (name[1] === "param")
      return this.#put(to, kind, `as<${type(kind)}>(p_${/_param_(\d+)\]$/.exec(from)?.[1]})`);
    const pointer = (of: string): string => this.#pointer(name[1] ?? "", from, of);
    if (!to.startsWith("{")) return this.#put(to, kind, `*${pointer(type(kind))}`);
    const parts = listOf(to);
    const several = `Several<${type(kind)}, ${parts.length}>`;
    const puts = parts.map((part, i) => this.#put(part, kind, `t.of[${i}]`));
    return `{ const ${several} t = *${pointer(several)}; ${puts.join(" ")} }`;
  }

  #store(name: readonly string[], to: string, from: string): string {
    const kind = name.at(-1) ?? "";
    const pointer = (of: string): string => this.#pointer(name[1] ?? "", to, of);
    if (!from.startsWith("{")) return `*${pointer(type(kind))} = ${this.#value(from, kind)};`;
    const values = listOf(from).map((part) => this.#value(part, kind));
    const several = `Several<${type(kind)}, ${values.length}>`;
    return `*${pointer(several)} = ${several}{{${values.join(", ")}}};`;
  }

  #multiply(name: readonly string[], to: string, a: string, b: string): string {
    const [, how = "", kind = ""] = name;
    const wide = kind === "s32" ? "s64" : "u64";
    const plain = wrapping(kind);
    if (how === "lo" || how === "rn")
      return this.#put(to, plain, `${this.#value(a, plain)} * ${this.#value(b, plain)}`);
    const product = `${wide}(${this.#value(a, kind)}) * ${wide}(${this.#value(b, kind)})`;
    if (how === "wide") return this.#put(to, wide, product);
    if (how === "hi") return this.#put(to, kind, `(${product}) >> 32`);
    throw new Error(`${this.#name}: no translation of ${name.join(".")}`);
  }

  #compare(comparison: string, kind: string, [to = "", a = "", b = ""]: readonly string[]): string {
    const test = COMPARISONS[comparison];
    if (test === undefined) throw new Error(`${this.#name}: no comparison ${comparison}`);
    const values = `const ${type(kind)} a = ${this.#value(a, kind)}, b = ${this.#value(b, kind)};`;
    return `{ ${values} ${variable(to)} = ${test}; }`;
  }

  /** The types are the last two: to, from. */
  #convert(name: readonly string[], to: string, a: string, b: string): string {
    const [into = "", from = ""] = name.slice(-2);
    const how = name.slice(1, -2).join(".");
    const value = this.#value(a, from === "f16" ? "b16" : from);
    const two: Readonly<Record<string, string>> = { f16x2: "two_halves", bf16x2: "two_bfloats" };
    if (two[into] !== undefined)
      return this.#put(to, "b32", `${two[into]}(${value}, ${this.#value(b, from)})`);
    if (from === "f16") return this.#put(to, "f32", `from_half(${value})`);
    if (into === "f16") return this.#put(to, "b16", `to_half(${value})`);
    if (how === "sat") return this.#put(to, into, `saturate(${value})`);
    if (how === "rni") return this.#put(to, into, `nearbyintf(${value})`);
    if (how !== "" && how !== "rn")
      throw new Error(`${this.#name}: no translation of ${name.join(".")}`);
    return this.#put(to, into, value);
  }

  #shuffle(mode: string, operands: readonly string[]): string {
    const [to = "", value = "", lane = "", segment = "", mask = ""] = operands;
    const kinds: Readonly<Record<string, string>> = {
      idx: "index",
      bfly: "exclusive_or",
      up: "up",
      down: "down",
    };
    const words = [value, lane, segment, mask].map((one) => this.#value(one, "u32"));
    const call = `shuffle(cuemu::Shuffle::${kinds[mode]}, ${words.join(", ")})`;
    return this.#put(to.split("|")[0] ?? "", "u32", call);
  }

  /** `mma.sync.aligned.SHAPE.row.col.D.A.B.C`. */
  #multiplyMatrices(name: readonly string[], operands: readonly string[]): string {
    const [, , , size = "", , , sums = "", factors = ""] = name;
    const shape = `${factors}_${size.replace(/^m(\d+)n(\d+)k(\d+)$/, "$1x$2x$3")}`;
    const [d = [], a = [], b = [], c = []] = operands.map(listOf);
    const kind = sums === "s32" ? "s32" : "f32";
    const array = (parts: readonly string[], of: string): string =>
      `{${parts.map((part) => this.#value(part, of)).join(", ")}}`;
    return (
      `{ ${kind} d[4] = ${array(c, kind)}; const u32 a[4] = ${array(a, "b32")}, b[2] = ${array(b, "b32")}; ` +
      `cuemu::mma(cuemu::Mma::${shape}, d, a, b, 1, 1); ` +
      `${d.map((part, i) => this.#put(part, kind, `d[${i}]`)).join(" ")} }`
    );
  }

  #copy(
    name: readonly string[],
    [to = "", from = "", bytes = "", present = ""]: readonly string[],
  ): string {
    if (name.includes("commit_group")) return "cuemu::copy_async_commit();";
    if (name.includes("wait_group")) return `cuemu::copy_async_wait(${to});`;
    const [shared, global] = [
      this.#pointer("shared", to, "void"),
      this.#pointer("global", from, "void"),
    ];
    return `cuemu::copy_async(${shared}, ${global}, ${bytes}, ${this.#value(present, "u32")});`;
  }
}

/** A register's or label's name as C++ has it; `f32` alone is a type. */
function variable(name: string): string {
  return name.replace(/^[%$]/, "_");
}

/** Operands are separated by commas; lists in braces are one. */
function operandsOf(text: string): string[] {
  return [...text.matchAll(/\{[^}]*\}|\[[^\]]*\]|[^\s,]+/g)].map(([operand]) => operand);
}

function listOf(operand: string): string[] {
  return operand.startsWith("{") ? operandsOf(operand.slice(1, -1)) : [operand];
}
