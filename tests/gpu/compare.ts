/**
 * Compares two folders that `serve.sh` has written:
 *
 *   bun tests/gpu/compare.ts EXPECTED FOUND         what two backends make of given texts, token by token
 *   bun tests/gpu/compare.ts EXPECTED FOUND exact   answers, which must be the same to the byte
 *
 * Two backends round differently, so their own greedy texts part where two tokens are about equally probable, and say nothing from
 * there on. Given texts are scored by both with the same tokens before each place.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Most that log-probabilities may differ by: activations are rounded to 8 bits by both, after sums in different orders. 0.32 was the
 * most between the cpu and the emulated device on the text of `serve.sh`, for a token of probability 0.0001.
 */
export const TOLERANCE = 0.5;

/** The `logprobs` of a completion with `echo`; the first token has none. */
export interface Scores {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
}

export interface Comparison {
  readonly positions: number;
  /** Positions where the expected most probable token is ahead of the next by more than twice the tolerance. */
  readonly decided: number;
  readonly largest: number;
  readonly wrong: readonly string[];
}

function ranked(top: Readonly<Record<string, number>>): readonly [string, number][] {
  return Object.entries(top).toSorted(([, a], [, b]) => b - a);
}

/** Holds `found` to `expected`: log-probabilities within the tolerance, the same most probable token wherever that is decided. */
export function compareScores(expected: Scores, found: Scores, tolerance: number): Comparison {
  const wrong: string[] = [];
  let [positions, decided, largest] = [0, 0, 0];
  if (expected.tokens.join("\0") !== found.tokens.join("\0")) wrong.push("the tokens differ");
  for (const [i, logprob] of expected.token_logprobs.entries()) {
    const [other, before, after] = [
      found.token_logprobs[i],
      expected.top_logprobs[i],
      found.top_logprobs[i],
    ];
    if (typeof logprob !== "number" || !before) continue;
    if (typeof other !== "number" || !after) {
      wrong.push(`position ${i} is not scored`);
      continue;
    }
    positions++;
    const off = Math.abs(other - logprob);
    largest = Math.max(largest, off);
    if (!(off <= tolerance)) wrong.push(`position ${i}: ${logprob} became ${other}`);
    const [[best, first] = ["", 0], [, second] = ["", -Infinity]] = ranked(before);
    if (first - second <= 2 * tolerance) continue;
    decided++;
    const [[now] = [""]] = ranked(after);
    if (now !== best)
      wrong.push(`position ${i}: ${JSON.stringify(now)} in place of ${JSON.stringify(best)}`);
  }
  return { positions, decided, largest, wrong };
}

function names(folder: string, pattern: RegExp): readonly string[] {
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .toSorted();
}

function scoresIn(path: string): Scores {
  const answer = JSON.parse(readFileSync(path, "utf8")) as {
    readonly choices?: readonly { readonly logprobs?: Scores }[];
  };
  const scores = answer.choices?.[0]?.logprobs;
  if (scores === undefined) throw new Error(`${path}: no log-probabilities`);
  return scores;
}

function compareTexts(expected: string, found: string): string[] {
  const files = names(expected, /^[1-5]-/);
  const differ = files.filter(
    (name) => !readFileSync(join(expected, name)).equals(readFileSync(join(found, name))),
  );
  process.stdout.write(`${files.length - differ.length} answers equal, ${differ.length} not\n`);
  return files.length === 0 ? ["no answers"] : differ.map((name) => `${name} differs`);
}

function compareAllScores(expected: string, found: string): string[] {
  const files = names(expected, /^6-scored-/);
  const all = files.map((name) => {
    const comparison = compareScores(
      scoresIn(join(expected, name)),
      scoresIn(join(found, name)),
      TOLERANCE,
    );
    return { name, comparison };
  });
  const sum = (of: (one: Comparison) => number): number =>
    all.reduce((total, { comparison }) => total + of(comparison), 0);
  const [positions, decided] = [sum((one) => one.positions), sum((one) => one.decided)];
  const largest = Math.max(0, ...all.map(({ comparison }) => comparison.largest));
  const wrong = all.flatMap(({ name, comparison }) =>
    comparison.wrong.map((words) => `${name}: ${words}`),
  );
  process.stdout.write(
    `${positions} positions, ${decided} decided, largest difference ${largest.toFixed(4)}\n`,
  );
  // What decides nothing shows nothing.
  return decided < positions / 4 || positions === 0 ? [...wrong, "too little is decided"] : wrong;
}

if (import.meta.main) {
  const [expected, found, mode] = process.argv.slice(2);
  if (expected === undefined || found === undefined) {
    process.stderr.write("usage: compare.ts EXPECTED FOUND [exact]\n");
    process.exit(2);
  }
  const compare = mode === "exact" ? compareTexts : compareAllScores;
  const wrong = compare(expected, found);
  for (const words of wrong.slice(0, 20)) process.stdout.write(`${words}\n`);
  process.exit(wrong.length === 0 ? 0 : 1);
}
