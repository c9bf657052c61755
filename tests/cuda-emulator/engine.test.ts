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

/** Files and how many of their property runs are played for each of the settings. A forward alone is on one stream: one will do. */
const SUITES = [
  { file: "cuda.test.ts", runs: 1, settings: FEW_SETTINGS.slice(1, 2) },
  { file: "one-answer.test.ts", runs: 0.04, settings: FEW_SETTINGS },
  { file: "offload.test.ts", runs: 0.02, settings: FEW_SETTINGS },
] as const;

describe.skipIf(!CAN_EMULATE)("on the emulated device, with every access checked,", () => {
  beforeAll(() => buildEmulator(), LIMIT_MS);

  for (const { file, runs, settings: some } of SUITES) {
    test(
      `tests/native/${file} passes on real streams`,
      async () => {
        const failures: string[] = [];
        await twoAtATime(some, async (settings) => {
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
