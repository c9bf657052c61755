import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FAULTS as CUDA_FAULTS } from "../../cuda-emulator/faults.ts";
import { DISK_FAULTS } from "../../mutation/disk-faults.ts";
import { FAULTS } from "../../mutation/faults.ts";
import { type Fault, filesOf, outcomeOf, plant, plantSwitched } from "../../mutation/plan.ts";

const ROOT = join(import.meta.dir, "../../..");
const CORE_FAULTS = [...CUDA_FAULTS, ...DISK_FAULTS];

const FAULT: Fault = {
  name: "one-too-many",
  breaks: "a count",
  file: "count.ts",
  from: "a + 1",
  to: "a + 2",
  tests: [],
};

test("a node_modules that is a link, which git lists, is no file to copy", () => {
  expect(filesOf("a.ts\0node_modules\0b/node_modules.ts\0")).toEqual(["a.ts", "b/node_modules.ts"]);
});

describe("planting a fault", () => {
  test("replaces its text, as it stands", () => {
    expect(plant(FAULT, "let b = a + 1;")).toEqual({ text: "let b = a + 2;" });
    expect(plant({ ...FAULT, to: "'$&'" }, "b = a + 1;")).toEqual({ text: "b = '$&';" });
  });

  test.each([
    ["no longer there", "let b = a;", {}, "stands 0 times"],
    ["there twice", "b = a + 1; c = a + 1;", {}, "stands 2 times"],
    ["the same as before", "b = a + 1;", { to: "a + 1" }, "changes nothing"],
    ["no program", "b = a + 1;", { to: "a + (" }, "no TypeScript"],
  ])("is refused where the text is %s", (_, text, change, why) => {
    expect(plant({ ...FAULT, ...change }, text)).toMatchObject({
      why: expect.stringContaining(why),
    });
  });
});

test("a fault that is switched on when the program runs stands beside what is right", () => {
  const isOn = 'std::env::var("KVENGINE_FAULT").as_deref() == Ok("one-too-many")';
  expect(plantSwitched(FAULT, "let b = a + 1;")).toEqual({
    text: `let b = (if ${isOn} { a + 2 } else { a + 1 });`,
  });
  const lines = { ...FAULT, from: "  go();\n", to: "" };
  expect(plantSwitched(lines, "  go();\n  stop();\n")).toEqual({
    text: `if ${isOn} {\n} else {\n  go();\n}\n  stop();\n`,
  });
  expect(plantSwitched(FAULT, "let b = a;")).toHaveProperty("why");
});

describe("the outcome of a fault", () => {
  test("is that it survived when all tests pass", () => {
    expect(outcomeOf(0, false, "(pass) a [1.00ms]")).toEqual({ kind: "survived" });
  });

  test("names the first test that failed", () => {
    const output = "(pass) a [1.00ms]\n(fail) pool > frees (twice) [0.12ms]\n(fail) b\n";
    expect(outcomeOf(1, false, output)).toEqual({ kind: "caught", by: "pool > frees (twice)" });
  });

  test("is that it was caught when the tests crash or never end", () => {
    expect(outcomeOf(132, false, "")).toEqual({ kind: "caught", by: "exit code 132" });
    expect(outcomeOf(null, true, "")).toEqual({ kind: "caught", by: "the time limit" });
  });
});

/** Of `backend::cuda::tests::name`, which lies in `backend/cuda/tests.rs`, or at the end of `backend/cuda.rs` or its `mod.rs`. */
async function rustFileOf(test: string): Promise<string> {
  const module = `kernels/core/src/${test.split("::").slice(0, -1).join("/")}`;
  const outer = module.replace(/\/tests$/, "");
  const files = [`${module}.rs`, `${outer}.rs`, `${outer}/mod.rs`];
  return files.find((file) => existsSync(join(ROOT, file))) ?? "no file";
}

describe("the faults", () => {
  test.each(FAULTS.map((fault) => [fault.name, fault] as const))(
    "%s can be planted",
    async (_, fault) => {
      const planted = plant(fault, await Bun.file(join(ROOT, fault.file)).text());
      expect(planted).toHaveProperty("text");
      expect(fault.tests.length).toBeGreaterThan(0);
      for (const file of fault.tests) expect(existsSync(join(ROOT, file))).toBe(true);
    },
  );

  test.each(CORE_FAULTS.map((fault) => [fault.name, fault] as const))(
    "%s of the core can be planted",
    async (_, fault) => {
      const planted = plant(fault, await Bun.file(join(ROOT, fault.file)).text());
      expect(planted).toHaveProperty("text");
      // One test has to notice, and there is one of that name.
      const [entry = "", ...more] = fault.tests;
      expect(more).toEqual([]);
      const test = entry.replace(/^ptx > /, "");
      const [file, name] = test.includes("::")
        ? [await rustFileOf(test), `fn ${test.split("::").at(-1)}(`]
        : (test.split(" > ") as [string, string]);
      expect(await Bun.file(join(ROOT, file)).text()).toContain(name);
    },
  );

  test("have names of their own", () => {
    const names = [...FAULTS, ...CORE_FAULTS].map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });
});
