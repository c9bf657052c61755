/**
 * Whether kvengine against llama-server gives the same verdicts whichever is side a: two sessions of `bench serve --ab`, the second
 * with the sides turned round. Exits with 1 where a metric has another winner in each.
 *
 *   bun tests/measure/bench-orders.ts PATH_OF_LLAMA_SERVER [ROUNDS]
 */

import { sectionText } from "../../cli/bench/report/section.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli } from "../support/server.ts";

const [llamaServer = "llama-server", rounds = "3"] = process.argv.slice(2);
const SIDES: Readonly<Record<string, string>> = {
  kvengine: "kvengine:",
  "llama-server": "llama-server: llama-server -np 4 -c 4096",
};

interface Metric {
  readonly metric: { readonly name: string };
  readonly interval?: { readonly ratio: number; readonly low: number; readonly high: number };
  readonly verdict: string;
}

/** Who is better in each metric, with the interval of b / a. */
async function session(order: readonly string[]): Promise<Map<string, readonly [string, string]>> {
  const { code, stdout, stderr } = await runCli([
    ...["bench", "serve", defaultModelPath(), "--json", "--peer", `llama-server=${llamaServer}`],
    ...order.flatMap((name) => ["--ab", SIDES[name] ?? ""]),
    ...["--ab-rounds", rounds, "--ab-warmups", "0", "--num-warmups", "1"],
    ...["--random-input-len", "64", "--random-output-len", "16", "--num-prompts", "8"],
    ...["--max-concurrency", "4"],
  ]);
  if (code !== 0) throw new Error(stderr);
  const { comparisons } = JSON.parse(stdout) as { comparisons: { metrics: Metric[] }[] };
  const winnerOf = ({ verdict }: Metric): string =>
    verdict.endsWith("is better") ? (order["ab".indexOf(verdict[0] ?? "")] ?? verdict) : verdict;
  return new Map(
    (comparisons[0]?.metrics ?? []).map((one) => {
      const { ratio, low, high } = one.interval ?? { ratio: 0, low: 0, high: 0 };
      return [
        one.metric.name,
        [winnerOf(one), `${ratio.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`],
      ] as const;
    }),
  );
}

const first = await session(["kvengine", "llama-server"]);
const second = await session(["llama-server", "kvengine"]);
const names = [...first.keys()];
process.stdout.write(
  sectionText({
    title: `Who is better, ${rounds} rounds in each order`,
    columns: ["", "kvengine first", "b / a", "llama-server first", "b / a"],
    rows: names.map((name) => [name, ...(first.get(name) ?? []), ...(second.get(name) ?? [])]),
    textual: true,
  }),
);
const opposed = names.filter((name) => {
  const winners = new Set([first.get(name)?.[0], second.get(name)?.[0]]);
  winners.delete("no difference");
  return winners.size > 1;
});
const same = names.filter((name) => first.get(name)?.[0] === second.get(name)?.[0]);
process.stdout.write(
  `${same.length} of ${names.length} metrics have the same verdict in both orders`,
);
process.stdout.write(opposed.length === 0 ? ".\n" : `; opposed: ${opposed.join(", ")}.\n`);
process.exitCode = same.length === names.length ? 0 : 1;
