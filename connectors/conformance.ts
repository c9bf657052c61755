/**
 * The suite that every connector should pass, of ours and of others: `testConnector` tries one rule after the other, each on connectors
 * of its own. What a rule needs comes from a harness; one with more to offer can run rules that need more.
 */

import type { ConnectorDescription } from "./connector-class.ts";
import type { KvConnector } from "./connector.ts";
import type { EmptyEngine } from "./empty-engine.ts";
import type { RuleResult } from "./rule-result.ts";
import { showThrown } from "./safe-text.ts";

export interface Harness {
  readonly description: ConnectorDescription;
  /** Constructs one; `options` beside those that every connector of the suite has. Throws what its options or its constructor throw. */
  create(options?: Readonly<Record<string, unknown>>): KvConnector;
  /** An engine that has nothing and refuses everything. */
  createEngine(): EmptyEngine;
  /** Answers whether the promise settles in good time; rejects as it does. */
  settles(promise: Promise<unknown>): Promise<boolean>;
}

export interface Rule<H = Harness> {
  /** What holds, after "a connector" or "a tier". */
  readonly name: string;
  /** Throws what does not hold. */
  readonly run: (harness: H) => void | Promise<void>;
}

/** What a rule throws: its message is the failure. */
export class Broken extends Error {}

/** It cannot even be constructed: every other rule would say the same. */
export class Unusable extends Broken {}

/** All rules in order, whatever becomes of those before; none after one that finds the connector unusable. Never throws. */
export async function testConnector<H>(
  harness: H,
  rules: readonly Rule<H>[],
): Promise<readonly RuleResult[]> {
  const results: RuleResult[] = [];
  for (const { name, run } of rules) {
    let failure: string | undefined;
    let isUnusable = false;
    try {
      await run(harness);
    } catch (thrown) {
      isUnusable = thrown instanceof Unusable;
      failure = thrown instanceof Broken ? thrown.message : `threw ${showThrown(thrown)}`;
    }
    results.push({ rule: name, failure });
    if (isUnusable) break;
  }
  return results;
}
