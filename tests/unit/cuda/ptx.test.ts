/** The translation of PTX for the emulator: what it makes of an instruction is checked by running it (`tests/cuda-emulator/ops.test.ts`). */
import { expect, test } from "bun:test";
import { PTX_FILE } from "../../../kernels/cuda/sources.ts";
import { translate } from "../../cuda-emulator/ptx.ts";

const kernel = (...lines: readonly string[]): string =>
  [
    ".version 8.0",
    ".shared .align 16 .b8 common[8];",
    ".visible .entry small(",
    "\t.param .u64 small_param_0,",
    "\t.param .f32 small_param_1",
    ")",
    ".maxntid 32, 1, 1",
    "{",
    ...lines.map((line) => `\t${line}`),
    "}",
    "",
  ].join("\n");

const statements = (...lines: readonly string[]): string => {
  const source = translate(kernel(...lines))[0]?.source ?? "";
  return source.slice(source.indexOf("{") + 1, source.lastIndexOf("}")).trim();
};

test("every kernel that ships is translated, with its parameters", async () => {
  const ptx = new TextDecoder().decode(Bun.gunzipSync(await Bun.file(PTX_FILE).bytes()));
  const kernels = translate(ptx);
  expect(kernels.length).toBe(ptx.match(/\.entry /g)?.length ?? 0);
  expect(new Set(kernels.map(({ name }) => name)).size).toBe(kernels.length);
  expect(translate(kernel("ret;"))[0]?.source).toContain("void small(u64 p_0, f32 p_1)");
});

test("registers are variables, labels are labels, and a guard is an if", () => {
  expect(
    statements(".reg .pred %p<2>;", "$L__1:", "@!%p1 bra $L__1;", '.pragma "nounroll";', "ret;"),
  ).toBe("bool _p0, _p1;\n  _L__1:;\n  if (!_p1) { goto _L__1; }\n  return;");
});

test("sums of signed numbers wrap, their order is that of signed ones", () => {
  expect(statements("add.s32 %r1, %r2, -1;")).toBe("put(_r1, s32(as<u32>(_r2) + u32(-1)));");
  expect(statements("setp.lt.s32 %p1, %r2, 5;")).toContain(
    "const s32 a = as<s32>(_r2), b = s32(5);",
  );
});

test("shared variables lie one behind the other as they are aligned", () => {
  const found = statements(
    ".shared .align 4 .b8 own[5];",
    "ld.shared.f32 %f1, [common+4];",
    "mov.u32 %r1, own;",
  );
  expect(found).toContain("*shared_at<f32>(u64(16) + 4)");
  expect(found).toContain("put(_r1, u32(u32(0)));");
});

test.each([
  ["tex.2d.v4.f32.f32 {%f1, %f2}, [%rd1];", /small: no translation of tex/],
  ["cvt.rz.s32.f32 %r1, %f1;", /small: no translation of cvt\.rz/],
  ["setp.hi.u32 %p1, %r1, %r2;", /small: no comparison hi/],
  ["mov.u32 %r1, %laneid;;", /small/],
  ["mov.u32 %r1, elsewhere;", /small: this is no operand: elsewhere/],
])("%s is refused by name", (line, words) => {
  expect(() => translate(kernel(line))).toThrow(words);
});
