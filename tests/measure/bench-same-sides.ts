/**
 * How often `bench serve --ab` says of two sides that are the same that they differ: short sessions with real servers. Taken
 * together (over all metrics) and metric by metric, of which 5 % may. Exits with 1 where more than 3 of 20 sessions taken together do.
 *
 *   bun tests/measure/bench-same-sides.ts [SESSIONS] [ROUNDS] [FLAGS OF kvengine serve …]
 */

import { sectionText } from "../../cli/bench/report/section.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli } from "../support/server.ts";

const [sessions = "20", rounds = "5", ...flags] = process.argv.slice(2);

interface Comparison {
  /** Taken together. */
  readonly different: readonly string[];
  readonly metrics: readonly {
    readonly metric: { readonly name: string };
    readonly interval?: { readonly ratio: number; readonly low: number; readonly high: number };
    readonly verdict: string;
  }[];
}

async function session(seed: number): Promise<Comparison> {
  const { code, stdout, stderr } = await runCli([
    ...["bench", "serve", defaultModelPath(), "--json", "--log-level", "error"],
    ...["a", "b"].flatMap((side) => ["--ab", `${side}: ${flags.join(" ")}`]),
    ...["--ab-rounds", rounds, "--ab-warmups", "0", "--num-warmups", "1"],
    ...["--random-input-len", "64", "--random-output-len", "16", "--num-prompts", "8"],
    ...["--max-concurrency", "4", "--seed", String(seed)],
  ]);
  if (code !== 0) throw new Error(stderr);
  const { comparisons } = JSON.parse(stdout) as { comparisons: Comparison[] };
  const [comparison] = comparisons;
  if (comparison === undefined) throw new Error(stdout);
  return comparison;
}

const differing = new Map<string, number>();
let together = 0;
for (let seed = 0; seed < Number(sessions); seed++) {
  const { different, metrics } = await session(seed);
  if (different.length > 0) together++;
  for (const { metric, verdict } of metrics)
    differing.set(
      metric.name,
      (differing.get(metric.name) ?? 0) + Number(verdict !== "no difference"),
    );
  const throughput = metrics.find(({ metric }) => metric.name === "output_throughput")?.interval;
  console.error(
    `session ${seed + 1}: ${different.length === 0 ? "no difference" : different.join(", ")}; throughput ${throughput?.ratio.toFixed(3)} [${throughput?.low.toFixed(3)}, ${throughput?.high.toFixed(3)}]`,
  );
}
process.stdout.write(
  sectionText({
    title: `Sessions of ${sessions} that say "no difference" of equal sides, ${rounds} rounds each`,
    columns: ["", "no difference"],
    rows: [
      ["taken together", String(Number(sessions) - together)],
      ...[...differing].map(([name, count]) => [name, String(Number(sessions) - count)]),
    ],
  }),
);
process.exitCode = together > (3 / 20) * Number(sessions) ? 1 : 0;
