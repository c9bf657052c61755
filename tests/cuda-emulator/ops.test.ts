/**
 * The kernels, compiled for the host, against the reference: the suite that every backend passes, with every access checked, on
 * six seeds in three orders of threads; programs and transfers of pages on few of them.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { buildEmulator, CAN_EMULATE, emulated, type Flavour } from "./build.ts";
import { buildCoreTests, runCoreTests, twoAtATime } from "./core-tests.ts";
import { FEW_SETTINGS, SETTINGS } from "./settings.ts";

const LIMIT_MS = 900_000;
const SUITE = ["ops::suite::the_cuda"];
const PROGRAMS = ["program::tests", "transfer::tests::sequences::pages_that_went", "backend::cuda"];

describe.skipIf(!CAN_EMULATE)("on the emulated device, with every access checked,", () => {
  let program: string;
  beforeAll(async () => {
    await buildEmulator();
    program = await buildCoreTests();
  }, LIMIT_MS);

  const passEverywhere = async (
    filters: readonly string[],
    settings: readonly string[],
    flavour: Flavour = "checked",
  ): Promise<void> => {
    const failures: string[] = [];
    await twoAtATime(settings, async (one) => {
      const { passed, failure } = await runCoreTests(program, filters, emulated(flavour, one));
      if (failure !== undefined) failures.push(failure);
      else if (passed === 0) failures.push(`${one}: no test ran`);
    });
    expect(failures).toEqual([]);
  };

  test(
    "every kernel agrees with the reference on every seed and in every order",
    () => passEverywhere(SUITE, SETTINGS),
    LIMIT_MS,
  );

  test(
    "the PTX that ships computes what its sources say, its inline assembly included",
    () => passEverywhere([...SUITE, ...PROGRAMS], ["seed=7,threads=greedy,streams=random"], "ptx"),
    LIMIT_MS,
  );

  test(
    "programs and transfers of pages give what they give on the cpu",
    () => passEverywhere(PROGRAMS, FEW_SETTINGS),
    LIMIT_MS,
  );
});
