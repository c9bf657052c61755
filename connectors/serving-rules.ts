/** Rules of the interface that need an engine: random requests on one that computes nothing and sees every wrong block. */

import { Broken, type Harness, type Rule } from "./conformance.ts";
import type { TransferFate, TrialOptions, TrialReport } from "./trial.ts";

export interface ServingHarness extends Harness {
  /** Serves random requests with a new connector of the suite's. */
  serve(options: TrialOptions): Promise<TrialReport>;
}

/** Trials of a rule. */
const TRIALS = 12;

const WELL: readonly TransferFate[] = ["ends"];
const BADLY: readonly TransferFate[] = ["ends", "ends", "fails", "loses a page", "starts", "hangs"];

function rule(
  name: string,
  options: Omit<TrialOptions, "seed">,
  check: (report: TrialReport) => void,
): Rule<ServingHarness> {
  return {
    name,
    async run(harness): Promise<void> {
      for (let seed = 1; seed <= TRIALS; seed++) {
        const report = await harness.serve({ ...options, seed });
        try {
          check(report);
        } catch (broken) {
          const why = broken instanceof Broken ? broken.message : String(broken);
          throw new Broken(`in trial ${seed} of ${TRIALS} ${why}`);
        }
      }
    },
  };
}

function servesWell({ wrong, unfinished, held, isDisabled, lines }: TrialReport): void {
  const told = lines.length === 0 ? "" : `; the log says: ${lines[0]}`;
  if (isDisabled) throw new Broken(`it was disabled${told}`);
  if (unfinished.length > 0) throw new Broken(`${unfinished.join(", ")} did not end${told}`);
  if (wrong.length > 0)
    throw new Broken(`${wrong.join(", ")} did not get the tokens that they get alone${told}`);
  if (held > 0) throw new Broken(`${held} blocks are held when all requests have ended${told}`);
}

/** Where no transfer is slow and none fails. */
function keepsItsPromises(report: TrialReport): void {
  servesWell(report);
  const { promised, neverBegun } = report.counts;
  if (neverBegun === 0) return;
  const told = report.lines.find((line) => line.includes("promised")) ?? "nothing";
  throw new Broken(
    `${neverBegun} of ${promised} blocks that it promised were never loaded, although no transfer was slow or failed; the log says: ${told}`,
  );
}

function freesWhatItHolds(report: TrialReport): void {
  keepsItsPromises(report);
  const line = report.lines.find((one) => one.includes("touches of blocks to end"));
  if (line !== undefined) throw new Broken(`the log says: ${line}`);
}

export const SERVING_RULES: readonly Rule<ServingHarness>[] = [
  rule(
    "changes no request's tokens, keeps its promises and frees what it holds, while transfers end well",
    { spareBlocks: 4, hostPages: 64, fates: WELL, disturbs: false },
    freesWhatItHolds,
  ),
  rule(
    "lives with aborts and resets, and brings nothing from before a reset",
    { spareBlocks: 4, hostPages: 64, fates: WELL, disturbs: true },
    keepsItsPromises,
  ),
  rule(
    "lives with transfers that are slow, fail, lose pages and hang",
    { spareBlocks: 4, hostPages: 64, fates: BADLY, disturbs: true },
    servesWell,
  ),
  rule(
    "lives with a device and a host that are full: preemption, pressure, no page to be had",
    { spareBlocks: 0, hostPages: 3, fates: BADLY, disturbs: false },
    servesWell,
  ),
];
