/** How far one run's logits are from another's on the same text. */

export interface Distance {
  /** Mean KL divergence of the positions, in nats. */
  readonly divergence: number;
  /** Mean magnitude of the change of the log-probability of the token that follows. */
  readonly change: number;
  /** Mean of how much less likely it became. */
  readonly shift: number;
  /** Share of positions whose most likely token is the same. */
  readonly agreement: number;
}

/** Both `[positions, vocabulary]`; `targets`: the tokens that follow, of the last position there may be none. */
export function distanceOf(
  from: Float32Array,
  to: Float32Array,
  vocabSize: number,
  targets: readonly number[],
): Distance {
  const positions = from.length / vocabSize;
  let [divergence, change, shift, agreement] = [0, 0, 0, 0];
  for (let position = 0; position < positions; position++) {
    const row = [position * vocabSize, (position + 1) * vocabSize] as const;
    const [a, b] = [logProbabilities(from.subarray(...row)), logProbabilities(to.subarray(...row))];
    let sum = 0;
    for (let token = 0; token < vocabSize; token++) {
      const logA = a.values[token] as number;
      sum += Math.exp(logA) * (logA - (b.values[token] as number));
    }
    divergence += sum / positions;
    agreement += a.first === b.first ? 1 / positions : 0;
    const target = targets[position];
    if (target === undefined) continue;
    const less = (a.values[target] as number) - (b.values[target] as number);
    change += Math.abs(less) / targets.length;
    shift += less / targets.length;
  }
  return { divergence, change, shift, agreement };
}

function logProbabilities(logits: Float32Array): { values: Float64Array; first: number } {
  let first = 0;
  for (const [token, x] of logits.entries()) if (x > (logits[first] as number)) first = token;
  const most = logits[first] as number;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - most);
  const normaliser = most + Math.log(sum);
  return { values: Float64Array.from(logits, (x) => x - normaliser), first };
}
