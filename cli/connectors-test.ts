/** `kvengine connectors test`: a connector against the rules of its interface. */

import type { CommandDef } from "citty";
import { type RuleResult, testConnector } from "../connectors/conformance.ts";
import { RULES } from "../connectors/conformance-rules.ts";
import { SERVING_RULES, type ServingHarness } from "../connectors/serving-rules.ts";
import type { ConnectorDescription } from "../connectors/connector-class.ts";
import type { KvConnector } from "../connectors/connector.ts";
import { notesOn, showCounts, sumCounts, type TrialCounts } from "../connectors/trial-counts.ts";
import { createEmptyEngine } from "../connectors/empty-engine.ts";
import { optionsOf, parseGivenOptions } from "../engine/connectors/given-options.ts";
import { loadConnectorClass, readOptions } from "../engine/connectors/load-connector.ts";
import { serveTrial } from "../engine/connectors/trial/serve-trial.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";

/** How long a promise of a connector is waited for. */
const PATIENCE_MS = 5000;

const command: CommandDef = defineOurCommand("connectors test", async ({ values, positionals }) => {
  const [spec = ""] = positionals;
  const description = await loadConnectorClass(spec, process.cwd());
  const given = optionsOf(parseGivenOptions(values.kvConnectorOptions, 1), description.name);
  // Refused before any rule runs: it is the command line that is wrong then.
  readOptions(spec, description, given);
  const trials: TrialCounts[] = [];
  const harness = createHarness(spec, description, given, trials);
  const rules = [...RULES, ...SERVING_RULES];
  const results = await testConnector(harness, rules);
  const failed = results.filter(({ failure }) => failure !== undefined).length;
  const { name, apiVersion } = description;
  const counts = sumCounts(trials);
  const notes = trials.length === 0 ? [] : notesOn(counts);
  const report = { name, apiVersion, results, trials: counts, notes };
  const said = trials.length === 0 ? [] : [showCounts(counts), ...notes];
  const text = values.json
    ? JSON.stringify(report, null, 2)
    : toText(spec, description, results, rules.length, said);
  process.stdout.write(`${text}\n`);
  return failed === 0 ? EXIT.ok : EXIT.failed;
});

function createHarness(
  spec: string,
  description: ConnectorDescription,
  given: Readonly<Record<string, unknown>>,
  trials: TrialCounts[],
): ServingHarness {
  const create = (options?: Readonly<Record<string, unknown>>): KvConnector =>
    new description.connectorClass(readOptions(spec, description, { ...given, ...options }));
  return {
    description,
    create,
    serve: async (options) => {
      const report = await serveTrial(description.name, create(), options);
      trials.push(report.counts);
      return report;
    },
    createEngine: () => createEmptyEngine(description.name, () => performance.now()),
    settles,
  };
}

async function settles(promise: Promise<unknown>): Promise<boolean> {
  const { promise: passed, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, PATIENCE_MS, false);
  try {
    return await Promise.race([promise.then(() => true), passed]);
  } finally {
    clearTimeout(timer);
  }
}

function toText(
  spec: string,
  { name, apiVersion }: ConnectorDescription,
  results: readonly RuleResult[],
  numRules: number,
  notes: readonly string[],
): string {
  const failed = results.filter(({ failure }) => failure !== undefined);
  const untried = numRules - results.length;
  return [
    `${name}, version ${apiVersion} of the interface (${spec}): a connector`,
    ...results.flatMap(({ rule, failure }) =>
      failure === undefined ? [`  ok    ${rule}`] : [`  FAIL  ${rule}`, `        ${failure}`],
    ),
    ...notes.map((note) => `  note  ${note}`),
    `${results.length - failed.length} rules hold, ${failed.length} do not${untried === 0 ? "" : `, ${untried} were not tried`}`,
  ].join("\n");
}

export default command;
