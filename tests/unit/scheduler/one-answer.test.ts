/** Whatever else runs, a request gets the tokens it gets alone, and nothing is left behind. */

import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { playScenario, scenarios } from "../../support/one-answer.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

test("one answer: every finished request has exactly the tokens it has alone, and nothing is left", async () => {
  const seen = { preemptions: 0, prefixHits: 0, acceptedTokens: 0, drafts: 0 };
  await fc.assert(
    fc.asyncProperty(scenarios(60), async (scenario) => {
      const world = await playScenario(scenario);
      const stats = world.scheduler.takeStats();
      seen.preemptions += stats.preemptions;
      seen.prefixHits += stats.prefixHits;
      seen.drafts += stats.drafts;
      seen.acceptedTokens += stats.acceptedTokens;
      await world.runner.stop();
    }),
    propertyRuns(3000),
  );
  // The scenarios are worth something only if all of this happens in them.
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(100);
});
