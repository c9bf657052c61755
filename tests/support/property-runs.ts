/** How often, from which seed and for how long properties are tried: fixed, unless the long mode asks for more. */

/** `KVENGINE_TEST_RUNS` multiplies the runs, `KVENGINE_TEST_SEED` picks others. */
export function propertyRuns(runs: number): { numRuns: number; seed: number } {
  const times = Number(process.env["KVENGINE_TEST_RUNS"] ?? 1);
  const seed = Number(process.env["KVENGINE_TEST_SEED"] ?? 7);
  return { numRuns: Math.ceil(runs * times), seed };
}

/** Milliseconds that a test of properties may take; in the long mode as many times more as there are runs. */
export const PROPERTY_LIMIT_MS: number =
  600_000 * Math.max(1, Number(process.env["KVENGINE_TEST_RUNS"] ?? 1));

/** Whether so few runs are played that they need not have met everything that may happen. */
export const FEW_PROPERTY_RUNS: boolean = Number(process.env["KVENGINE_TEST_RUNS"] ?? 1) < 1;
