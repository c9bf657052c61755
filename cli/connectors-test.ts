/** `kvengine connectors test`: a connector or a tier against the rules of its interface. */

import type { CommandDef } from "citty";
import { testConnector } from "../connectors/conformance.ts";
import { RULES } from "../connectors/conformance-rules.ts";
import type { RuleResult } from "../connectors/rule-result.ts";
import { SERVING_RULES, type ServingHarness } from "../connectors/serving-rules.ts";
import { type ConnectorDescription, describeConnector } from "../connectors/connector-class.ts";
import type { KvConnector } from "../connectors/connector.ts";
import { notesOn, showCounts, sumCounts, type TrialCounts } from "../connectors/trial-counts.ts";
import { createEmptyEngine } from "../connectors/empty-engine.ts";
import { importTiered } from "../connectors/registry.ts";
import { NUM_TIER_RULES, testTier } from "../connectors/test-tier.ts";
import type { TierDescription } from "../connectors/tier-class.ts";
import { drivingOf } from "../connectors/tier-options.ts";
import { KvEngineError } from "../engine/errors.ts";
import { optionsOf, parseGivenOptions } from "../engine/connectors/given-options.ts";
import { type Exported, loadExport, readOptions } from "../engine/connectors/load-connector.ts";
import type { LoadedTier } from "../engine/connectors/tiers/js-tier-port.ts";
import { serveTrial } from "../engine/connectors/trial/serve-trial.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";

/** How long a promise of a connector is waited for. */
const PATIENCE_MS = 5000;

type Given = Readonly<Record<string, unknown>>;

/** What the rules have found, and how many there are. */
interface Findings {
  readonly results: readonly RuleResult[];
  readonly numRules: number;
}

const command: CommandDef = defineOurCommand("connectors test", async ({ values, positionals }) => {
  const [spec = ""] = positionals;
  const exported = await loadExport(spec, process.cwd());
  const { name, apiVersion } = exported.description;
  const given = optionsOf(parseGivenOptions(values.kvConnectorOptions, 1), name);
  // Refused before any rule runs: it is the command line that is wrong then.
  readOptions(spec, exported.description, given);
  const trials: TrialCounts[] = [];
  const findings =
    exported.kind === "tier"
      ? await tryTier(spec, withClass(spec, exported.description), given, trials)
      : await tryConnector(spec, exported.description, given, trials);
  const { results } = findings;
  const failed = results.filter(({ failure }) => failure !== undefined).length;
  const counts = sumCounts(trials);
  const notes = trials.length === 0 ? [] : notesOn(counts);
  const report = { kind: exported.kind, name, apiVersion, results, trials: counts, notes };
  const said = trials.length === 0 ? [] : [showCounts(counts), ...notes];
  const text = values.json
    ? JSON.stringify(report, null, 2)
    : toText(spec, exported, findings, said);
  process.stdout.write(`${text}\n`);
  return failed === 0 ? EXIT.ok : EXIT.failed;
});

async function tryConnector(
  spec: string,
  description: ConnectorDescription,
  given: Given,
  trials: TrialCounts[],
): Promise<Findings> {
  const create = (options?: Given): KvConnector =>
    new description.connectorClass(readOptions(spec, description, { ...given, ...options }));
  const harness = createHarness(description, create, () => [], trials);
  const rules = [...RULES, ...SERVING_RULES];
  return { results: await testConnector(harness, rules), numRules: rules.length };
}

/** Throws `bad_config` for the engine's own, which keeps its rules by its own tests. */
function withClass(
  spec: string,
  { tierClass, ...rest }: Extract<Exported, { kind: "tier" }>["description"],
): TierDescription {
  if (tierClass !== undefined) return { ...rest, tierClass };
  throw new KvEngineError("bad_config", `the tier ${spec} is the engine's own: it is no module`, {
    subject: "name",
  });
}

/** A tier alone, and then below host pages that are far too few. */
async function tryTier(
  spec: string,
  description: TierDescription,
  given: Given,
  trials: TrialCounts[],
): Promise<Findings> {
  const { name, tierClass } = description;
  const numRules = NUM_TIER_RULES + SERVING_RULES.length;
  const alone = await testTier(tierClass, { options: given, patienceMs: PATIENCE_MS });
  // Where it cannot even be constructed, no other rule was tried.
  if (alone.length < NUM_TIER_RULES) return { results: alone, numRules };
  const tiers = (): readonly LoadedTier[] => {
    const values = readOptions(spec, description, given);
    return [{ name, tier: new tierClass(values), driving: drivingOf(values), path: undefined }];
  };
  const tiered = describeConnector(await importTiered());
  const create = (): KvConnector => new tiered.connectorClass(readOptions(spec, tiered, {}));
  const harness = createHarness(tiered, create, tiers, trials);
  return { results: [...alone, ...(await testConnector(harness, SERVING_RULES))], numRules };
}

function createHarness(
  description: ConnectorDescription,
  create: (options?: Given) => KvConnector,
  tiers: () => readonly LoadedTier[],
  trials: TrialCounts[],
): ServingHarness {
  return {
    description,
    create,
    serve: async (options) => {
      const report = await serveTrial(description.name, create(), options, tiers());
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
  { kind, description: { name, apiVersion } }: Exported,
  { results, numRules }: Findings,
  notes: readonly string[],
): string {
  const failed = results.filter(({ failure }) => failure !== undefined);
  const untried = numRules - results.length;
  return [
    `${name}, version ${apiVersion} of the interface (${spec}): a ${kind}`,
    ...results.flatMap(({ rule, failure }) =>
      failure === undefined ? [`  ok    ${rule}`] : [`  FAIL  ${rule}`, `        ${failure}`],
    ),
    ...notes.map((note) => `  note  ${note}`),
    `${results.length - failed.length} rules hold, ${failed.length} do not${untried === 0 ? "" : `, ${untried} were not tried`}`,
  ].join("\n");
}

export default command;
