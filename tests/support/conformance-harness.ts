/** What the connectors' suite needs, for a class of the test's. */

import { describeConnector } from "../../connectors/connector-class.ts";
import type { ServingHarness } from "../../connectors/serving-rules.ts";
import type { KvConnector } from "../../connectors/connector.ts";
import { createEmptyEngine } from "../../connectors/empty-engine.ts";
import { parseOptions } from "../../connectors/options.ts";
import { serveTrial } from "../../engine/connectors/trial/serve-trial.ts";

/** A promise counts as settled in good time when it is after one turn of the event loop. */
export function harnessOf(exported: unknown): ServingHarness {
  const description = describeConnector(exported);
  const create = (options: Readonly<Record<string, unknown>> = {}): KvConnector =>
    new description.connectorClass(parseOptions(description.options, options));
  return {
    description,
    create,
    serve: (options) => serveTrial(description.name, create(), options),
    createEngine: () => createEmptyEngine(description.name, () => 0),
    settles: (promise) => Promise.race([promise.then(() => true), Bun.sleep(0).then(() => false)]),
  };
}
