/** The PTX that ships: made of these sources, within its budget on every chip; and each kernel against plain loops. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildEmulator, CAN_EMULATE, emulated } from "./build.ts";

const ROOT = join(import.meta.dir, "..", "..");
const MINUTES = 60_000;

/** What a program prints; fails with it unless it ends well. */
async function output(
  command: readonly string[],
  extra: Record<string, string> = {},
): Promise<string> {
  const child = Bun.spawn([...command], {
    cwd: ROOT,
    env: { ...process.env, ...extra },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect({ code: await child.exited, text: out + errors }).toMatchObject({ code: 0 });
  return out;
}

const bun = (script: string, ...words: string[]): Promise<string> =>
  output([process.execPath, join(ROOT, "kernels", "cuda", script), ...words]);

test.skipIf(!CAN_EMULATE)(
  "the committed PTX is what the sources give, and the oldest and the newest assembler take it",
  async () => {
    await bun("build.ts", "--check");
  },
  5 * MINUTES,
);

test.skipIf(!CAN_EMULATE)(
  "the machine code keeps its budget of registers, memory and loads on every chip",
  async () => {
    expect(await bun("gate.ts")).toMatch(/^[1-9]\d* passed, 0 failed\n$/);
  },
  10 * MINUTES,
);

test("the roofline is the one that its script writes", async () => {
  await bun("roofline.ts", "--check");
});

test.skipIf(!CAN_EMULATE)(
  "every kernel gives what plain loops give",
  async () => {
    await buildEmulator();
    const folder = mkdtempSync(join(tmpdir(), "kvengine-kernels-"));
    try {
      const program = join(folder, "kernels");
      const flags = ["-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-Wall", "-Wextra"];
      await output(["g++", ...flags, "tests/gpu/kernels.cpp", "-o", program, "-ldl"]);
      const ptx = join(folder, "kernels.ptx");
      const packed = await Bun.file(join(ROOT, "kernels", "cuda", "kernels.ptx.gz")).bytes();
      writeFileSync(ptx, Bun.gunzipSync(packed));
      const words = await output([program, ptx, "--check"], emulated("fast"));
      expect(words).toMatch(/\n[1-9]\d* passed, 0 failed\n$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  10 * MINUTES,
);
