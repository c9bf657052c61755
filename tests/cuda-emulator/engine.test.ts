/**
 * The engine on the emulated device, with every access checked: the properties that hold on the cpu hold here, with real streams
 * under scheduler and connectors. The files are those of `tests/native`, which ask `KVENGINE_TEST_DEVICE` what computes.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { buildEmulator, CAN_EMULATE, emulated } from "./build.ts";
import { twoAtATime } from "./core-tests.ts";
import { FEW_SETTINGS } from "./settings.ts";

const ROOT: string = join(import.meta.dir, "..", "..");
const LIMIT_MS = 900_000;

/** Files and how many of their property runs are played for each of the settings. */
const SUITES: readonly { readonly file: string; readonly runs: number }[] = [
  { file: "cuda.test.ts", runs: 1 },
  { file: "one-answer.test.ts", runs: 0.02 },
  { file: "offload.test.ts", runs: 0.02 },
];

describe.skipIf(!CAN_EMULATE)("on the emulated device, with every access checked,", () => {
  beforeAll(() => buildEmulator(), LIMIT_MS);

  for (const { file, runs } of SUITES) {
    test(
      `tests/native/${file} passes with every order of streams`,
      async () => {
        const failures: string[] = [];
        await twoAtATime(FEW_SETTINGS, async (settings) => {
          const child = Bun.spawn([process.execPath, "test", `./tests/native/${file}`], {
            cwd: ROOT,
            env: {
              ...process.env,
              ...emulated("checked", settings),
              KVENGINE_TEST_DEVICE: "cuda",
              KVENGINE_TEST_RUNS: String(runs),
              KVENGINE_TEST_SEED: String(7 + FEW_SETTINGS.indexOf(settings)),
              NO_COLOR: "1",
            },
            stdin: "ignore",
            stdout: "pipe",
            stderr: "pipe",
          });
          const [output, words] = await Promise.all([child.stdout.text(), child.stderr.text()]);
          const code = await child.exited;
          const all = output + words;
          // A run without tests is no pass.
          if (code !== 0 || !/^ [1-9]\d* pass$/m.test(all))
            failures.push(`${settings}: code ${code}\n${all}`);
        });
        expect(failures).toEqual([]);
      },
      LIMIT_MS,
    );
  }
});
