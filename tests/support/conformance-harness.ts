/** What the connectors' suite needs, for a class of the test's. */

import { describeConnector } from "../../connectors/connector-class.ts";
import type { Harness } from "../../connectors/conformance.ts";
import { createEmptyEngine } from "../../connectors/empty-engine.ts";
import { parseOptions } from "../../connectors/options.ts";

/** A promise counts as settled in good time when it is after one turn of the event loop. */
export function harnessOf(exported: unknown): Harness {
  const description = describeConnector(exported);
  return {
    description,
    create: (options = {}) =>
      new description.connectorClass(parseOptions(description.options, options)),
    createEngine: () => createEmptyEngine(description.name, () => 0),
    settles: (promise) => Promise.race([promise.then(() => true), Bun.sleep(0).then(() => false)]),
  };
}
