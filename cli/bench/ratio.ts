/**
 * The ratio of two sides that were measured in turns, with a 95 % interval: Student's t on the logarithms of the rounds' ratios,
 * so that what changed from round to round cancels.
 */

export interface RatioInterval {
  /** a / b: geometric mean over the rounds. */
  readonly ratio: number;
  /** Ends of the 95 % interval; NaN for fewer than two rounds, which say nothing of the noise. */
  readonly low: number;
  readonly high: number;
}

/** |T| is above this with a chance of 5 %, by degrees of freedom from 1; beyond the table the last one is a little too large. */
const CRITICAL_T = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086,
];

/** `a[i]` and `b[i]`: positive figures of round i. */
export function ratioInterval(a: readonly number[], b: readonly number[]): RatioInterval {
  const rounds = Math.min(a.length, b.length);
  const logs = Array.from({ length: rounds }, (_, i) => Math.log(a[i]! / b[i]!));
  const mean = sum(logs) / rounds;
  const variance = sum(logs.map((log) => (log - mean) ** 2)) / (rounds - 1);
  const t = CRITICAL_T[Math.min(rounds - 1, CRITICAL_T.length) - 1] ?? Number.NaN;
  const margin = t * Math.sqrt(variance / rounds);
  return { ratio: Math.exp(mean), low: Math.exp(mean - margin), high: Math.exp(mean + margin) };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** `1.83 [1.79, 1.87]`; without an interval where there is none, and `no difference` where it holds 1. */
export function formatRatio({ ratio, low, high }: RatioInterval): string {
  if (Number.isNaN(low)) return `${ratio.toFixed(2)} (one round)`;
  const interval = `${ratio.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return low <= 1 && high >= 1 ? `${interval} no difference` : interval;
}
