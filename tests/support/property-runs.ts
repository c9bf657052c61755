/** How often and from which seed properties are tried: fixed, unless the long mode asks for more. */

/** `KVENGINE_TEST_RUNS` multiplies the runs, `KVENGINE_TEST_SEED` picks others. */
export function propertyRuns(runs: number): { numRuns: number; seed: number } {
  const times = Number(process.env["KVENGINE_TEST_RUNS"] ?? 1);
  const seed = Number(process.env["KVENGINE_TEST_SEED"] ?? 7);
  return { numRuns: Math.ceil(runs * times), seed };
}
